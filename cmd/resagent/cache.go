package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/fallbackcache"
)

// cache is `resagent cache`: what lies in the folder of a fallback cache.
func cache(_ context.Context, fs *pflag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "print JSON: an object for each answer, in no order, or for what was purged")
	begins := fs.Bool("prefix", false, "purge the answers to every URL that begins with the one given, not to that one only")
	if err := parse(fs, args, 2, 3); err != nil {
		return err
	}
	verb, dir, url := fs.Arg(0), fs.Arg(1), fs.Arg(2)
	if verb != "list" && verb != "show" && verb != "purge" {
		return usageError{fmt.Errorf("cache does not know %q%s; write list, show or purge", verb, didYouMean(verb, []string{"list", "show", "purge"}))}
	}
	if verb == "show" && url == "" {
		return usageError{errors.New("show wants a URL too: resagent cache show DIR URL")}
	}
	if *begins && (verb != "purge" || url == "") {
		return usageError{errors.New("--prefix is for purge with a URL: resagent cache purge --prefix DIR URL")}
	}
	folder, err := fallbackcache.OpenFolder(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	if verb == "purge" {
		return purgeCache(folder, url, *begins || url == "", *asJSON)
	}

	out := json.NewEncoder(stdout)
	var found []fallbackcache.Listed
	shown, damaged := 0, 0
	for l, err := range folder.All() {
		if err != nil {
			printError(err)
			damaged++
			continue
		}
		if verb == "list" && !strings.HasPrefix(l.URL, url) || verb == "show" && l.URL != url {
			continue
		}
		shown++
		switch {
		case *asJSON:
			if err := out.Encode(l); err != nil {
				return err
			}
			continue
		case verb == "list":
			l.Header, l.Vary = nil, nil // of a million answers only what is shown is kept
		}
		found = append(found, l)
	}
	slices.SortFunc(found, func(a, b fallbackcache.Listed) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), a.StoredAt.Compare(b.StoredAt))
	})
	switch {
	case verb == "show" && shown == 0:
		return fmt.Errorf("nothing is stored for %s; resagent cache list shows what is", url)
	case *asJSON:
	case verb == "list":
		printCacheList(found, time.Now())
	default:
		printCacheEntries(found)
	}
	if damaged > 0 {
		return errShown
	}
	return nil
}

// purgeCache removes the answers to a URL, or to all that begin so.
func purgeCache(folder *fallbackcache.Folder, url string, begins, asJSON bool) error {
	n, err := folder.Purge(func(l fallbackcache.Listed) bool {
		return l.URL == url || begins && strings.HasPrefix(l.URL, url)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w (after %s)", err, count(n, "answer", "answers"))
	case asJSON:
		return json.NewEncoder(stdout).Encode(map[string]int{"purged": n})
	case n == 0 && !begins:
		fmt.Fprintf(stdout, "purged 0 answers: nothing is stored for %s; --prefix purges all that begins so\n", printable(url))
		return nil
	}
	fmt.Fprintf(stdout, "purged %s\n", count(n, "answer", "answers"))
	return nil
}

func printCacheList(found []fallbackcache.Listed, now time.Time) {
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprint(t, "STATUS  SIZE\tSTORED\tTTL\tFOR\tURL\n")
	for _, l := range found {
		who := "all"
		if l.Private {
			who = "one user"
		}
		fmt.Fprintf(t, "%d     %d\t%v ago\t%v\t%s\t%s\n", l.Status, l.Size, now.Sub(l.StoredAt).Round(time.Second),
			l.FreshUntil.Sub(now).Round(time.Second), who, printable(l.URL))
	}
}

func printCacheEntries(found []fallbackcache.Listed) {
	for i, l := range found {
		if i > 0 {
			fmt.Fprintln(stdout)
		}
		fmt.Fprintf(stdout, "%s\nstatus %d, body %d bytes, stored %s, fresh until %s\n", printable(l.URL), l.Status, l.Size,
			l.StoredAt.Format(time.RFC3339), l.FreshUntil.Format(time.RFC3339))
		if l.Private {
			fmt.Fprintln(stdout, "for the credentials it was fetched with, only")
		}
		if len(l.Vary) > 0 {
			fmt.Fprintf(stdout, "depends on %s\n", printable(strings.Join(l.Vary, ", ")))
		}
		for _, name := range slices.Sorted(maps.Keys(l.Header)) {
			for _, value := range l.Header[name] {
				fmt.Fprintf(stdout, "  %s: %s\n", printable(name), printable(value))
			}
		}
	}
}

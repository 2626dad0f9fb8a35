package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/policies"
)

// explain is `resagent explain`: by the policies of the running agent, or
// those of a file.
func explain(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	files := policyFiles{
		file:    fs.String("policies", "", "explain by this `FILE`, without the agent"),
		folders: fs.StringArray("policies-dir", nil, "with --policies: a `DIR` of further *.yaml, *.yml and *.json files; may be repeated"),
	}
	named := fs.String("upstream", "", "explain the upstream of this `NAME`, in place of METHOD and URL")
	if err := parse(fs, args, 0, -1); err != nil {
		return err
	}
	if n := fs.NArg(); *named == "" && n != 2 || *named != "" && n > 0 {
		return wrongNumber(fs, "2 arguments, METHOD and URL, or --upstream and none")
	}
	var u *url.URL
	method, target := fs.Arg(0), fs.Arg(1)
	if *named == "" {
		var err error
		if u, err = callOf(method, target); err != nil {
			return err
		}
	}
	if *files.file == "" && len(*files.folders) > 0 {
		return usageError{fmt.Errorf("--policies-dir is for use with --policies; give that too")}
	}

	var found policies.Explanation
	if *files.file != "" {
		set, err := files.load()
		if err != nil {
			return err
		}
		switch {
		case *named == "":
			found = set.Explain(method, u)
		case set.Named(*named) == nil:
			return errors.New(set.NoUpstream(*named))
		default:
			found = set.ExplainNamed(*named)
		}
	} else {
		query := url.Values{"method": {method}, "url": {target}}
		if *named != "" {
			query = url.Values{"upstream": {*named}}
		}
		body, err := call(ctx, *socket, "GET", "/v1/explain?"+query.Encode())
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &found); err != nil {
			return fmt.Errorf("the agent's answer to explain is not understood: %w; is it of another version?", err)
		}
	}
	if *asJSON {
		return printJSON(found)
	}
	printExplanation(stdout, found)
	return nil
}

// callOf reads the call to explain.
func callOf(method, target string) (*url.URL, error) {
	if method != strings.ToUpper(method) {
		return nil, usageError{fmt.Errorf("cannot explain the method %q: methods are written in capitals, did you mean %q?", method, strings.ToUpper(method))}
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError{fmt.Errorf("cannot explain the URL %q: it has no scheme and host; write a whole one, such as http://payments.internal/v1", target)}
	}
	return u, nil
}

// printExplanation shows the upstream, why it won, and each value with its
// place.
func printExplanation(w io.Writer, e policies.Explanation) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	if e.Upstream == "" {
		fmt.Fprint(t, "upstream\tnone: no policy names this call, its host and port stand for themselves\n")
	} else {
		fmt.Fprintf(t, "upstream\t%s\n", oneLine(e.Upstream))
	}
	if e.Match != nil {
		fmt.Fprintf(t, "match\t%s\n", oneLine(matchText(e)))
	}
	fmt.Fprint(t, "\nVALUE\tIS\tFROM\n")
	for _, v := range e.Values {
		fmt.Fprintf(t, "%s\t%s\t%s\n", oneLine(v.Path), oneLine(v.Value), oneLine(v.From()))
	}
}

// matchText is the match that won, in words, with its place.
func matchText(e policies.Explanation) string {
	s := "host " + e.Match.Host
	if e.Match.Path != "" {
		s += ", path " + e.Match.Path
	}
	if len(e.Match.Methods) > 0 {
		s += ", methods " + strings.Join(e.Match.Methods, " ")
	}
	if !e.MatchPosition.IsZero() {
		s += " (" + e.MatchPosition.String() + ")"
	}
	return s
}

// printJSON writes v for machines, indented for the people who look anyway.
func printJSON(v any) error {
	e := json.NewEncoder(stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

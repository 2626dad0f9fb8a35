//go:build unix

package fallbackcache

import (
	"os"
	"testing"
	"time"
)

// What is purged is gone from all caches, also what has no file any more or was
// never given one, and what is still on its way is not stored.
func TestPurgeReachesMemory(t *testing.T) {
	match := func(l Listed) bool { return l.URL == page }
	for name, purge := range map[string]func(Listed) bool{"all": nil, "one": match} {
		t.Run(name, func(t *testing.T) {
			dir := sharedDir(t)
			c := sharedOn(t, dir)
			private := get(t, page, "Authorization: alice")
			keep(t, c, start, private, 200, "memory only", public)
			keep(t, c, start, get(t, page), 200, "evicted", public)
			for _, file := range files(t, dir) {
				if err := os.Remove(file); err != nil { // as another process makes room
					t.Fatal(err)
				}
			}
			asked := c.Stamp(get(t, page))
			folder, err := OpenFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			if n, err := folder.Purge(purge); n != 0 || err != nil {
				t.Errorf("purged %d, %v", n, err)
			}
			if got := found(t, c, start, time.Hour, get(t, page)); got != none {
				t.Errorf("what was evicted from the folder is still given: %q", got)
			}
			if got := found(t, c, start, time.Hour, private); got != none {
				t.Errorf("what is in memory only is still given: %q", got)
			}
			req := get(t, page)
			drain(t, c.KeepAnd(req, response(t, req, 200, "on its way", public), asked, start, nil))
			if got := found(t, c, start, time.Hour, get(t, page)); got != none {
				t.Errorf("what was on its way was stored: %q", got)
			}
			keep(t, c, start, get(t, page), 200, "new", public)
			if got := found(t, c, start, time.Hour, get(t, page)); got != "new" {
				t.Errorf("what is asked for after it gives %q", got)
			}
		})
	}
}

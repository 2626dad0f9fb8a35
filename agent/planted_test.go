//go:build linux

package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mistake is a change to a copy of the source. In the copy it waits behind a
// switch; the source itself knows nothing of it. One without a name belongs to
// the others.
type mistake struct {
	name, file, old, new string
}

// planted are known mistakes about limits.
var planted = []mistake{
	{"ledger raised after the cell", "allocator.go",
		"	a.setGranted(h, h.granted+n)\n	c.SetTarget(h.epoch, target)\n	if !c.Grant(h.epoch, n) {",
		`	late := planted("ledger raised after the cell")
	if late {
		if !c.Grant(h.epoch, n) {
			return
		}
		c = new(page.Cell) // the rest is done to nobody's cell
		c.Open(h.epoch)
	}
	a.setGranted(h, h.granted+n)
	c.SetTarget(h.epoch, target)
	if !c.Grant(h.epoch, n) {`},
	{"ledger lowered before the cell", "allocator.go",
		"	took := min(c.Seize(h.epoch, n), h.granted)\n",
		`	if planted("ledger lowered before the cell") {
		if n = min(n, c.Read().Available, h.granted); n > 0 {
			a.setGranted(h, h.granted-n)
			n = c.Seize(h.epoch, n)
			v.granted, v.available = h.granted, max(0, v.available-n)
		}
		return n
	}
	took := min(c.Seize(h.epoch, n), h.granted)
`},
	{"page believed above the ledger", "recover.go",
		"			a.setGranted(h, min(h.granted, w.Available+w.InUse))\n",
		`			if planted("page believed above the ledger") {
				h.granted = w.Available + w.InUse
			}
			a.setGranted(h, min(h.granted, w.Available+w.InUse))
`},
	{"available and in use in two words", "page/cell.go",
		"		if c.word.CompareAndSwap(old, old-uint64(n)<<24+uint64(n)) {\n",
		`		if Planted == "available and in use in two words" {
			if c.word.CompareAndSwap(old, old-uint64(n)<<24) {
				Between()
				c.word.Add(uint64(n))
				return true
			}
			continue
		}
		if c.word.CompareAndSwap(old, old-uint64(n)<<24+uint64(n)) {
`},
	{"no epoch check", "page/cell.go",
		"		if w.Epoch != epoch || epoch == Closed || n < 0 || w.InUse < n || w.Available+n > Max {\n",
		`		if Planted == "no epoch check" {
			epoch = w.Epoch
		}
		if w.Epoch != epoch || epoch == Closed || n < 0 || w.InUse < n || w.Available+n > Max {
`},
	{"wake-up as an edge that can be lost", "allocator.go",
		"		case now-h.due >= unseen:\n",
		`		case planted("wake-up as an edge that can be lost"):
		case now-h.due >= unseen:
`},
	{"no re-reading of a stopped process's cell", "allocator.go",
		"	if wanted {\n		a.hot[l] = now + lookAgain\n",
		`	if planted("no re-reading of a stopped process's cell") {
		delete(a.hot, l)
	} else if wanted {
		a.hot[l] = now + lookAgain
`},
	{"floor not subtracted on return", "limit.go",
		"		extra += v.extra\n",
		`		if !planted("floor not subtracted on return") {
			extra += v.extra
		}
`},
	{"limit lowered by granting first", "tokens.go",
		"	l.capacity, l.every = capacity, every\n}",
		`	if planted("limit lowered by granting first") && l.out() > capacity {
		capacity = max(capacity, l.capacity)
	}
	l.capacity, l.every = capacity, every
}`},
	{"", "allocator.go", "		l.perUser = perUser\n",
		`		if !planted("limit lowered by granting first") || l.capacity <= capacity {
			l.perUser = perUser
		}
`},
	{"remainder rounded to zero", "allocator.go",
		"		for i, n := range l.grants(free, views) {\n			if n > 0 {\n				a.grant(l.holders[i], n, max(",
		`		for i, n := range l.grants(free, views) {
			if planted("remainder rounded to zero") {
				n = min(n, orders[i].target-views[i].granted)
			}
			if n > 0 {
				a.grant(l.holders[i], n, max(`},
	{"spent without refilling", "recover.go",
		"		a.fillTo(h.limit, a.after(now))\n		c, ok := said[i]\n",
		`		if !planted("spent without refilling") {
			a.fillTo(h.limit, a.after(now))
		}
		c, ok := said[i]
`},
	// These two are in the model itself, which ends connections and restarts
	// agents in the server's place.
	{"freed on EOF while the process lives", "world_test.go", "", ""},
	{"restart frees", "world_test.go", "", ""},
	// Where a cell of the copy is between two operations, the model goes on.
	{"", "liveness_test.go", "func (w *world) hook() {}\n",
		`func (w *world) hook() {
	page.Between = func() {
		for _, a := range w.actors {
			if a.attached && w.pick(4) == 1 {
				w.disconnect(a)
				w.connect(a)
			}
		}
	}
}
`},
	{"", "liveness_test.go", "	\"github.com/resagent/resagent/agent/wire\"\n",
		"	\"github.com/resagent/resagent/agent/page\"\n	\"github.com/resagent/resagent/agent/wire\"\n"},
}

// switches are the files that the copy has more.
var switches = map[string]string{
	"page/switch.go": "package page\n\nimport \"os\"\n\nvar Planted, Between = os.Getenv(\"" + plantedEnv + "\"), func() {}\n",
	"switch.go":      "package agent\n\nimport \"github.com/resagent/resagent/agent/page\"\n\nfunc planted(name string) bool { return page.Planted == name }\n\nfunc unless(name string) uint64 {\n\tif planted(name) {\n\t\treturn 0\n\t}\n\treturn 1\n}\n",
}

// The model finds each of these mistakes, and none where none is.
func TestPlantedMistakesAreFound(t *testing.T) {
	find(t, planted, "^TestManySteps$", 60_000)
}

// find has a model's test find each mistake.
func find(t *testing.T, all []mistake, test string, steps int) {
	began := time.Now()
	binary := patched(t, all)
	try := func(mistake string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, "-test.run", test)
		cmd.Env = append(os.Environ(), plantedEnv+"="+mistake, fmt.Sprintf("%s=%d", stepsEnv, steps))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := try(""); err != nil {
		t.Fatalf("without a mistake: %v\n%s", err, out)
	}
	for _, m := range all {
		if m.name == "" {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			out, err := try(m.name)
			if err == nil {
				t.Fatalf("%d steps did not find it", steps)
			}
			if !strings.Contains(out, "with seed ") {
				t.Fatalf("the run failed, but not by finding it:\n%s", out)
			}
			t.Log(strings.SplitN(out, "\n", 3)[1])
		})
	}
	t.Logf("all of them in %v", time.Since(began).Round(time.Millisecond))
}

// patched builds this test over a copy of the source with the mistakes.
func patched(t *testing.T, all []mistake) string {
	t.Helper()
	dir, here := t.TempDir(), folder(t)
	replace := map[string]string{}
	put := func(file, text string) {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, file)] = path
	}
	copies := map[string]string{}
	for _, m := range all {
		if m.old == "" {
			continue
		}
		text, ok := copies[m.file]
		if !ok {
			b, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if n := strings.Count(text, m.old); n != 1 {
			t.Fatalf("%q: the place for it is %d times in %s, want once: say where it is now\n%s", m.name, n, m.file, m.old)
		}
		copies[m.file] = strings.Replace(text, m.old, m.new, 1)
	}
	for file, text := range copies {
		put(file, text)
	}
	for file, text := range switches {
		put(file, text)
	}
	// These files are not part of the copy: a variable has the switch's name.
	put("planted_test.go", "package agent\n")
	put("circuit_planted_test.go", "package agent\n")
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "model")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", list, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	return binary
}

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// view shows the play while it goes on: on a terminal a small screen that is
// drawn over in place, elsewhere a line for each event and each second.
type view struct {
	out    io.Writer
	screen bool
	play   *play
	drawn  int // lines on the screen now
	events []string
	meters map[*tape]int // how far each tape has been read
	next   time.Duration // when the second ends
	second tally
	shown  tally
}

// tally counts one second.
type tally struct {
	came  [routes]int
	calls map[outcome]int
}

// isTerminal says whether somebody looks at w as it is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// width is how many characters a line of the screen has.
func width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
	}
	return 80
}

// cut shortens a line: one that goes on in the next row could not be drawn
// over.
func cut(line string, most int) string {
	if letters := []rune(line); len(letters) > most {
		return string(letters[:most])
	}
	return line
}

func newView(out io.Writer, p *play, screen bool) *view {
	return &view{out: out, play: p, screen: screen, meters: map[*tape]int{}, second: tally{calls: map[outcome]int{}}}
}

// since is the time since the demo began.
func (v *view) since() float64 { return (monotonic() - v.play.story.Began).Seconds() }

// say tells of an event.
func (v *view) say(format string, args ...any) {
	line := fmt.Sprintf("%5.1fs  * %s", v.since(), fmt.Sprintf(format, args...))
	if v.screen {
		v.events = append(v.events, line)
		v.draw()
		return
	}
	fmt.Fprintln(v.out, line)
}

// close leaves the screen to what comes after.
func (v *view) close() {
	if !v.screen {
		return
	}
	v.wipe()
	for _, line := range v.events {
		fmt.Fprintln(v.out, line)
	}
}

func (v *view) wipe() {
	if v.drawn > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// draw shows how things are now.
func (v *view) draw() {
	v.read()
	now := monotonic()
	turn := now >= v.next
	if turn {
		v.shown, v.second = v.second, tally{calls: map[outcome]int{}}
		first := v.next == 0
		if v.next = now + time.Second; first {
			return
		}
	}
	switch {
	case v.screen:
		lines := v.lines()
		for i, line := range lines {
			lines[i] = cut(line, width(v.out))
		}
		up := ""
		if v.drawn > 0 {
			up = fmt.Sprintf("\x1b[%dA", v.drawn)
		}
		// In one write, each line over the old one: no flicker.
		fmt.Fprint(v.out, up, strings.Join(lines, "\x1b[K\n"), "\x1b[K\n\x1b[J")
		v.drawn = len(lines)
	case turn:
		fmt.Fprintln(v.out, v.line())
	}
}

// read goes on along all tapes.
func (v *view) read() {
	for _, a := range append(v.play.workers, v.play.upstreams[:]...) {
		if a == nil {
			continue
		}
		i := v.meters[a.tape]
		for ; ; i++ {
			r, whole := a.tape.at(i)
			if !whole {
				break
			}
			switch r.Kind {
			case came:
				v.second.came[r.Route]++
			case called:
				v.second.calls[r.Outcome]++
			}
		}
		v.meters[a.tape] = i
	}
}

// now is the state of things: the scene, the limit, what is in flight, how
// many workers have an open circuit, and of how many.
func (v *view) now() (name string, limit, inFlight, open, alive int) {
	p := v.play
	name, limit = "starting", demoLimit
	if n := len(p.story.Scenes); n > 0 {
		name = p.story.Scenes[n-1].Name
	}
	if p.story.Reloaded != 0 {
		limit = demoLowered
	}
	if a := p.upstreams[p.serving]; a != nil {
		inFlight = int(a.tape.head.InFlight[catalog].Load())
	}
	for i, a := range p.workers {
		if i == p.victim {
			continue
		}
		alive++
		open += int(a.tape.head.Open[catalog].Load())
	}
	return name, limit, inFlight, open, alive
}

// parts of the calls of the last second, in per cent.
func (v *view) parts() (upstream, cache, fixed float64, wrong int) {
	c := v.shown.calls
	all := 0
	for _, n := range c {
		all += n
	}
	of := 100 / float64(max(all, 1))
	return float64(c[answered]) * of, float64(c[stale]) * of, float64(c[static]) * of, c[refused] + c[errored] + c[different]
}

// line is the state in one line.
func (v *view) line() string {
	name, limit, inFlight, open, alive := v.now()
	upstream, cache, fixed, wrong := v.parts()
	return fmt.Sprintf("%5.1fs  %-15s  catalog %2d/%d %4d/s  quotes %3d/s  orders %2d/s  open %d/%d  upstream %3.0f%%  stale %3.0f%%  static %3.0f%%  failed %d",
		v.since(), name, inFlight, limit, v.shown.came[catalog], v.shown.came[quotes], v.shown.came[orders], open, alive, upstream, cache, fixed, wrong)
}

// lines is the screen.
func (v *view) lines() []string {
	name, limit, inFlight, open, alive := v.now()
	upstream, cache, fixed, wrong := v.parts()
	lines := []string{
		fmt.Sprintf("resagent demo   %5.1fs   %s", v.since(), strings.ToUpper(name)),
		"",
		fmt.Sprintf("catalog  %s %2d of %d in flight   %4d/s", bar(inFlight, limit, demoLimit), inFlight, limit, v.shown.came[catalog]),
		fmt.Sprintf("quotes   %s %3d/s of %v/s", bar(v.shown.came[quotes]*20/int(demoRate), 20, 20), v.shown.came[quotes], demoRate),
		fmt.Sprintf("orders   %3d/s", v.shown.came[orders]),
		fmt.Sprintf("circuits %s open in %d of %d workers", bar(open, alive, demoWorkers), open, alive),
		fmt.Sprintf("answers  upstream %3.0f %%   stale %3.0f %%   fixed %3.0f %%   failed %d", upstream, cache, fixed, wrong),
		"",
	}
	return append(lines, v.events[max(0, len(v.events)-6):]...)
}

// bar draws n of limit, in a field of width.
func bar(n, limit, width int) string {
	n, limit = min(max(n, 0), width), min(limit, width)
	return strings.Repeat("█", n) + strings.Repeat("·", max(0, limit-n)) + strings.Repeat(" ", max(0, width-max(n, limit)))
}

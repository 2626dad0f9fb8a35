//go:build linux

package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// quietFor is how long one user's trouble of one kind is not logged again.
	quietFor = time.Minute
	// circuitLines is how many changes of the circuits that one user began are
	// logged in that time.
	circuitLines = 60
	// maxQuiet bounds how many users and kinds are told apart.
	maxQuiet = 1024
)

// quiet keeps what peers bring about from filling the log: each kind of
// trouble of each user is said once per [quietFor], or so many times, with how
// often it was not said before. The zero value is ready; safe for concurrent use.
type quiet struct {
	mu   sync.Mutex
	said map[trouble]*saying
}

type trouble struct {
	kind string
	uid  int
}

type saying struct {
	until   time.Time
	left    int // to be said until then
	swallow int
}

// may tells whether to log what is said at most so many times, how often it may
// be said again before the time is over, and how often it was not logged since
// the last time.
func (q *quiet) may(kind string, uid, most int, now time.Time) (ok bool, left, swallowed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.said == nil {
		q.said = make(map[trouble]*saying)
	}
	key := trouble{kind, uid}
	s := q.said[key]
	if s == nil {
		if len(q.said) >= maxQuiet {
			for k, old := range q.said {
				if !now.Before(old.until) {
					delete(q.said, k)
				}
			}
		}
		if len(q.said) >= maxQuiet {
			return false, 0, 0
		}
		s = new(saying)
		q.said[key] = s
	}
	switch {
	case !now.Before(s.until):
		s.until, s.left = now.Add(quietFor), most
	case s.left == 0:
		s.swallow++
		return false, 0, 0
	}
	s.left--
	swallowed, s.swallow = s.swallow, 0
	return true, s.left, swallowed
}

// warn logs trouble with a peer, unless it was said a moment ago.
func (a *Agent) warn(kind string, uid int, args ...any) {
	ok, _, swallowed := a.quiet.may(kind, uid, 1, time.Now())
	if !ok {
		return
	}
	args = append(args, "uid", uid)
	if swallowed > 0 {
		args = append(args, "not_logged_before", swallowed)
	}
	a.log().Warn(kind, args...)
}

// logCircuit logs a change of a circuit, which `resagent events` tells whatever
// is left out here: one user's processes may have a thousand that change every
// second.
func (a *Agent) logCircuit(c *circuit) {
	uid := a.circuits.starts[c]
	ok, left, swallowed := a.quiet.may("circuit", uid, circuitLines, time.Now())
	if !ok {
		return
	}
	args := []any{"upstream", c.key.upstream, "authority", c.key.authority, "state", c.word.State().String(), "forced", c.forced != nil, "reason", c.why}
	if swallowed > 0 {
		args = append(args, "not_logged_before", swallowed)
	}
	a.log().Info("circuit", args...)
	if left == 0 {
		a.log().Warn("many circuits change: for a minute no more are logged; see resagent events", "uid", uid)
	}
}

// httpTrouble is the log of net/http: what it says of connections it could
// not accept, or of handlers that panicked.
type httpTrouble struct{ a *Agent }

func (h httpTrouble) Enabled(context.Context, slog.Level) bool { return true }
func (h httpTrouble) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h httpTrouble) WithGroup(string) slog.Handler            { return h }

func (h httpTrouble) Handle(_ context.Context, r slog.Record) error {
	kind := "http server"
	switch {
	case strings.Contains(r.Message, "Accept error"):
		kind = "cannot accept connections"
	case strings.Contains(r.Message, "panic"):
		kind = "a request made the agent panic"
	}
	h.a.warn(kind, -1, "reason", r.Message)
	return nil
}

//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// listener is one socket and who answers on it.
type listener struct {
	*net.UnixListener
	server *http.Server
	most   int    // connections
	path   string // to remove; empty: somebody else's
}

func (l *listener) close() {
	l.UnixListener.Close()
	if l.path != "" {
		RemoveSocket(l.path)
	}
}

// listen opens the sockets, the agent's first.
func (a *Agent) listen() (all []*listener, err error) {
	most, admin, _ := room(openFiles())
	add := func(given *net.UnixListener, path string, most int, h http.Handler) {
		if err != nil || given == nil && path == "" {
			return
		}
		l := &listener{UnixListener: given, server: a.server(h), most: most}
		if given == nil {
			l.path = path
			if l.UnixListener, err = Listen(path, 0o660); err != nil {
				return
			}
		}
		all = append(all, l)
	}
	add(a.Listener, a.Socket, most, a.reading())
	add(a.AdminListener, a.AdminSocket, admin, a.changing())
	if err == nil && len(all) == 0 {
		err = errors.New("agent: no socket to listen on: name one with --socket")
	}
	if err != nil {
		for _, l := range all {
			l.close()
		}
		return nil, err
	}
	return all, nil
}

type connKey struct{}

// unixConn is the connection itself, which session and asker ask for its peer.
func unixConn(c net.Conn) net.Conn {
	if one, ok := c.(*counted); ok {
		return one.UnixConn
	}
	return c
}

func (a *Agent) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: helloWithin,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(httpTrouble{a}, slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, unixConn(c))
		},
	}
}

func (a *Agent) healthz(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	reply(w, map[string]any{"status": "ok", "generation": a.generation})
}

func (a *Agent) reload(w http.ResponseWriter, r *http.Request) {
	uid, pid := asker(r)
	done, err := a.reloadFor(Event{UID: &uid, PID: pid})
	if err != nil {
		refused(w, refusedPolicies, "the policies cannot be loaded; the earlier ones go on", err)
		return
	}
	reply(w, done)
}

func (a *Agent) policies(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	s := a.snapshot
	a.mu.Unlock()
	tag := `"` + s.ETag() + `"`
	w.Header().Set("ETag", tag)
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	reply(w, s.Set())
}

func (a *Agent) explain(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	s := a.snapshot
	a.mu.Unlock()
	if name := r.FormValue("upstream"); name != "" {
		if s.Named(name) == nil {
			a.unknownUpstream(w, name)
			return
		}
		reply(w, s.ExplainNamed(name))
		return
	}
	u, err := url.Parse(r.FormValue("url"))
	if err != nil || u.Host == "" {
		problem(w, http.StatusBadRequest, wrongQuery, "url is missing or wrong", "give an absolute URL, as in ?method=GET&url=https://host/path, or the name of an upstream, as in ?upstream=payments")
		return
	}
	method := r.FormValue("method")
	if method == "" {
		method = http.MethodGet
	}
	reply(w, s.Explain(method, u))
}

// session turns the connection into one.
func (a *Agent) session(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != wire.Upgrade {
		w.Header().Set("Upgrade", wire.Upgrade)
		problem(w, http.StatusUpgradeRequired, noUpgrade, "this is where sessions begin", "send Upgrade: "+wire.Upgrade)
		return
	}
	conn, ok := r.Context().Value(connKey{}).(*net.UnixConn)
	if !ok {
		problem(w, http.StatusInternalServerError, noSession, "not a Unix socket", "")
		return
	}
	who, err := peerOf(conn)
	if err != nil {
		a.refuseSession(who, unknownPeer, err)
		problem(w, http.StatusForbidden, noSession, "no session", err.Error())
		return
	}
	who.pidfd.Close()
	if err := a.admit(who.uid); err != nil {
		a.refuseSession(who, causeOf(err), err)
		w.Header().Set("Connection", "close") // it must not hold a descriptor for as long as an idle one
		problem(w, http.StatusServiceUnavailable, noSession, "no session", err.Error())
		return
	}
	defer a.leave(who.uid)
	hijacked, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer hijacked.Close()
	if buffered.Reader.Buffered() > 0 {
		return // descriptors may be lost already
	}
	hijacked.SetDeadline(time.Now().Add(helloWithin))
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + wire.Upgrade +
		"\r\n" + wire.LedgerHeader + ": " + a.alloc.ledger.id + "\r\n"
	if a.alloc.ledger.lost {
		head += wire.LostHeader + ": 1\r\n"
	}
	if _, err := hijacked.Write([]byte(head + "\r\n")); err != nil {
		return
	}
	a.serve(conn, who)
}

// admit counts a session in, or says why not.
func (a *Agent) admit(uid int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return errStopping
	}
	if a.perUID[uid] >= maxSessionsPerUID {
		return errUserFull
	}
	if len(a.sessions) >= maxSessions {
		return errAgentFull
	}
	a.perUID[uid]++
	a.active.Add(1)
	return nil
}

func (a *Agent) leave(uid int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active.Done()
	if a.perUID[uid]--; a.perUID[uid] <= 0 {
		delete(a.perUID, uid)
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v)
}

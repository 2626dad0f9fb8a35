//go:build linux

package agent

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// writeWithin is how long one that follows may take to read what it is sent.
const writeWithin = 10 * time.Second

// asker is who sends a request, by the kernel's word; -1 where it says none.
func asker(r *http.Request) (uid, pid int) {
	conn, ok := r.Context().Value(connKey{}).(*net.UnixConn)
	if !ok {
		return -1, 0
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, 0
	}
	uid = -1
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid, pid = int(cred.Uid), int(cred.Pid)
		}
	})
	return uid, pid
}

// eventsAfter answers /v1/events: the events since an ID as one JSON object,
// or with follow=1 line by line, those to come too.
func (a *Agent) eventsAfter(w http.ResponseWriter, r *http.Request) {
	var since uint64
	if text := r.FormValue("since"); text != "" {
		var err error
		if since, err = strconv.ParseUint(text, 10, 63); err != nil {
			problem(w, http.StatusBadRequest, wrongQuery, "since is not the ID of an event", "give a number, as in ?since=12")
			return
		}
	}
	if r.FormValue("follow") == "" {
		found, _ := a.events.after(since)
		if found == nil {
			found = []Event{}
		}
		reply(w, map[string]any{"events": found})
		return
	}
	uid, _ := asker(r)
	if !a.events.follow(uid) {
		problem(w, http.StatusServiceUnavailable, tooMany, "too many follow the events", "end one of them: at most "+strconv.Itoa(maxPerUser)+" of a user, "+strconv.Itoa(maxFollower)+" in all")
		return
	}
	defer a.events.unfollow(uid)
	a.follow(w, r, since)
}

// follow writes events as they come, until the reader leaves or does not read,
// or the agent stops.
func (a *Agent) follow(w http.ResponseWriter, r *http.Request, since uint64) {
	answer := http.NewResponseController(w)
	answer.SetReadDeadline(time.Time{}) // the server's would end the request
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	for {
		found, more := a.events.after(since)
		answer.SetWriteDeadline(time.Now().Add(writeWithin))
		for _, one := range found {
			since = one.ID
			if lines.Encode(one) != nil {
				return
			}
		}
		if answer.Flush() != nil || more == nil {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

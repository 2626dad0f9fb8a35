package transport

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// maxAuthorities bounds what one session remembers of the hosts it called.
const maxAuthorities = 4096

// shared is what all transports of one session have in common beside its
// limits.
type shared struct {
	unnamed     *policies.Policy
	mu          sync.RWMutex
	authorities map[place]*authority
}

func newShared() any {
	return &shared{unnamed: policies.Unnamed(), authorities: map[place]*authority{}}
}

// place is one authority under one upstream. The circuit's settings are part
// of it: a push that changes them begins a new circuit, any other leaves it as
// it is, and two transports with different policies do not disturb each other.
type place struct {
	upstream, scheme, host string
	circuit                unique.Handle[string] // zero: no policy names it, or it has none
}

// circuitOf names the settings of a circuit. The statuses are none of them: by
// these each call judges its own answer, before the circuit hears of it.
func circuitOf(b *policies.CircuitBreaker) (h unique.Handle[string]) {
	if b == nil {
		return h
	}
	set := *b
	set.Statuses = nil
	return unique.Make(fmt.Sprintf("%+v", set))
}

// authority is a scheme, host and port that was called.
type authority struct {
	scheme, host string       // as the first call wrote them
	breaker      *breaker     // nil: its policy has none
	up           *upstream    // of an authority that no policy names, else nil
	used         atomic.Int64 // Unix seconds
	paused       atomic.Int64 // until when it asked to be left alone, in ns; 0: it did not
	born         time.Time    // paused counts from here
	name         string       // scheme://host[:port], normalised
}

// authority finds or makes the state of u's authority under the upstream up;
// up nil: no policy names it, and it becomes its own upstream.
func (s *shared) authority(sess *client.Session, u *url.URL, up *upstream, now time.Time) *authority {
	scheme, host := normal(u)
	key := place{scheme: scheme, host: host}
	settings := s.unnamed.CircuitBreaker
	if up != nil {
		key.upstream, key.circuit, settings = up.name, up.circuit, up.policy.CircuitBreaker
	}
	s.mu.RLock()
	a := s.authorities[key]
	s.mu.RUnlock()
	if a != nil {
		return a
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.authorities[key]; a != nil {
		return a
	}
	if len(s.authorities) >= maxAuthorities {
		s.evict()
	}
	written := u.Scheme + u.Host // a copy: theirs may be a part of something long
	a = &authority{scheme: written[:len(u.Scheme)], host: written[len(u.Scheme):], name: scheme + "://" + host, born: now}
	a.touch(now)
	if settings != nil {
		a.breaker = newBreaker(*settings, now)
		if up != nil && settings.Scope != policies.ScopeProcess {
			a.breaker.host = ofAgent{sess.Circuit(up.name, a.name)}
		}
	}
	if up == nil {
		a.up = &upstream{name: host, policy: s.unnamed, limits: client.Local(s.unnamed)}
	}
	s.authorities[key] = a
	return a
}

// evict forgets the longest unused of a sample, and one whose circuit is open
// only if all of them are.
func (s *shared) evict() {
	var victim place
	var worst *authority
	seen := 0
	for key, a := range s.authorities { // in no order, which is what a sample needs
		if worst == nil || a.worth() < worst.worth() {
			victim, worst = key, a
		}
		if seen++; seen == 64 {
			break
		}
	}
	delete(s.authorities, victim)
}

// worth is greater for what should be kept.
func (a *authority) worth() int64 {
	const openIsWorth = 1 << 40
	w := a.used.Load()
	if a.breaker != nil && a.breaker.state() != closed {
		w += openIsWorth
	}
	return w
}

func (a *authority) touch(now time.Time) {
	if s := now.Unix(); a.used.Load() != s {
		a.used.Store(s)
	}
}

// normal gives scheme and host as they are compared: in small letters, without
// the scheme's own port.
func normal(u *url.URL) (scheme, host string) {
	scheme, host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return scheme, host
}

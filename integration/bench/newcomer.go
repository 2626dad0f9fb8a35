package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/resagent/resagent/agent/client"
)

const (
	// perSession of the contested limit there are, and one more is wanted.
	perSession = 3
	// longCall is how long each has it, on average: from nothing to twice that,
	// evenly, or all would come free at the same moments.
	longCall = 500 * time.Millisecond
	// wanted is how much the newcomer wants, or its share if that is less.
	wanted = 4
)

func contested(n int) string { return fmt.Sprintf("contested-%d", n) }

func limitsOf(s *client.Session, name string) (*client.Limits, error) {
	named := s.Policies().Named(name)
	if named == nil {
		return nil, fmt.Errorf("the agent has no policy %s", name)
	}
	return s.Limits(named.Name, &named.Policy), nil
}

// crave has a session want more than there is, until the process ends.
func crave(s *client.Session, name string) {
	limits, err := limitsOf(s, name)
	if err != nil {
		fail(err)
	}
	for range perSession + 1 {
		go func() {
			for {
				p, err := limits.Acquire(context.Background())
				if err != nil {
					continue // it waited too long
				}
				time.Sleep(rand.N(2 * longCall))
				p.Release()
			}
		}()
	}
}

// newcomers measures how long a process of another user waits, from before it
// has found the agent until it holds what it wants of its fair share, while n
// sessions want more than there is.
func newcomers(h *host, n int) (Series, error) {
	s := Series{Part: partSessions, Unit: "ns", X: float64(n)}
	share := min(wanted, perSession*n/(min(users, n)+1))
	s.Name = fmt.Sprintf("until a newcomer has its share (%d), %d sessions, calls of %v on average", share, n, longCall)
	for range 12 {
		time.Sleep(longCall/2 + rand.N(longCall)) // the one before is forgotten
		took, err := newcomer(h, n, share)
		if err != nil {
			return s, err
		}
		s.Values = append(s.Values, rounded(float64(took)))
	}
	return s, nil
}

func newcomer(h *host, n, share int) (time.Duration, error) {
	began := time.Now()
	s, err := h.session()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	limits, err := limitsOf(s, contested(n))
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	errs := make(chan error, share)
	permits := make(chan client.Permit, share)
	for range share {
		go func() {
			p, err := limits.Acquire(ctx)
			if err == nil {
				permits <- p
			}
			errs <- err
		}()
	}
	for range share {
		if e := <-errs; e != nil {
			err = e
		}
	}
	took := time.Since(began)
	for range len(permits) {
		(<-permits).Release()
	}
	return took, err
}

package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/resagent/resagent/policies"
)

// processes measures a permit of the host while other processes have attached
// to the same limit, used it and gone idle.
func processes(book *book) error {
	h, err := newHost(limited(policies.ScopeHost))
	if err != nil {
		return err
	}
	defer h.stop()
	s, err := h.session()
	if err != nil {
		return err
	}
	defer s.Close()
	named := s.Policies().Named("upstream")
	limits := s.Limits(named.Name, &named.Policy)
	var others []*process
	defer func() {
		for _, p := range others {
			p.kill()
		}
	}()
	// One number after the other: starting and ending processes in each round
	// would be most of what is measured.
	for _, n := range []int{1, 4, 16, 64} {
		for len(others) < n-1 {
			p, err := h.spawn("idle", "")
			if err != nil {
				return err
			}
			others = append(others, p)
		}
		if err := book.race("processes", []contestant{{fmt.Sprintf("a permit, %d processes attached", n), float64(n), func(b *testing.B) {
			for b.Loop() {
				p, err := limits.Acquire(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				p.Release()
			}
		}}}); err != nil {
			return err
		}
	}
	return nil
}

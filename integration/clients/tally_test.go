package clients

import (
	"sync"

	"github.com/resagent/resagent/transport"
)

// tally counts events by their kind.
type tally struct {
	mu sync.Mutex
	n  map[transport.Kind]int
}

func (c *tally) add(e transport.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[transport.Kind]int{}
	}
	c.n[e.Kind]++
}

func (c *tally) of(k transport.Kind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[k]
}

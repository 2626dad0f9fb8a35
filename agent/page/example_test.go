package page_test

import (
	"fmt"

	"github.com/resagent/resagent/agent/page"
)

// A permit's life in a cell: the agent grants, the process takes and gives
// back, the agent takes idle ones away again.
func ExampleCell() {
	var c page.Cell
	const epoch = 1
	c.Open(epoch)
	c.SetTarget(epoch, 2)
	c.Grant(epoch, 3)
	fmt.Println(c.Acquire(epoch, 1), c.Acquire(epoch, 1), c.Acquire(epoch, 1), c.Read())
	fmt.Println(c.Release(epoch, 1), c.Read())
	fmt.Println(c.Seize(epoch, 10), c.Read())
	// Output:
	// true true false {1 1 2}
	// true {1 2 1}
	// 2 {1 0 1}
}

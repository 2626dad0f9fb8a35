package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// route is one of the demo's three upstreams: parts of one server, told apart
// by their paths.
type route uint8

const (
	catalog route = iota // concurrency is limited, stale answers are allowed
	quotes               // the rate is limited, a fixed answer is given where there is none
	orders               // nothing but retries, within a budget
	routes
)

var routeNames = [routes]string{"catalog", "quotes", "orders"}

func (r route) String() string { return routeNames[r] }

// routeOf finds the route of a path or name such as "/catalog/7".
func routeOf(path string) (route, bool) {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	for r, known := range routeNames {
		if name == known {
			return route(r), true
		}
	}
	return 0, false
}

// What the demo's policies say, and its promises follow from.
const (
	demoLimit      = 20 // calls to catalog at a time
	demoLowered    = 12 // the same after the change
	demoRate       = 100.0
	demoBurst      = 10
	demoCapacity   = 140 // of the retry budget of orders
	demoRetryCost  = 14  // policies.RetryBudget
	demoOpenFor    = time.Second
	demoMaxOpenFor = 2 * time.Second
	demoWorkers    = 8
	demoKeys       = 24 // of catalog
)

// demoCallers is how many goroutines of each worker call a route, each one
// call after the other.
var demoCallers = [routes]int{catalog: 6, quotes: 5, orders: 1}

const demoPolicies = `version: 1
defaults:
  timeout: {attempt: 5s, total: 10s}
  connections: {max_per_host: 32}
upstreams:
  catalog:
    match: [{host: 127.0.0.1, path: /catalog}]
    bulkhead: {max_concurrent: %[1]d, max_waiting: 200, max_wait: 5s%[2]s}
    circuit_breaker: {open_for: %[3]v, max_open_for: %[4]v%[2]s}
    fallback: {stale: {max_stale: 1h, after: 2s}}
  quotes:
    match: [{host: 127.0.0.1, path: /quotes}]
    rate_limit: {rate: %[5]v/s, burst: %[6]d, max_wait: 5s%[2]s}
    circuit_breaker: {open_for: %[3]v, max_open_for: %[4]v%[2]s}
    retry: {disabled: true}
    fallback: {static: {body: "no quote now"}}
  orders:
    match: [{host: 127.0.0.1, path: /orders}]
    retry: {max_attempts: 3}
    retry_budget: {capacity: %[7]d%[2]s}
    circuit_breaker: {disabled: true}
`

// writeDemoPolicies puts the policies of the demo, with a limit for catalog,
// in place of what is at path.
func writeDemoPolicies(path string, limit int, scope string) error {
	if scope != "" {
		scope = ", scope: " + scope
	}
	text := fmt.Sprintf(demoPolicies, limit, scope, demoOpenFor, demoMaxOpenFor, demoRate, demoBurst, demoCapacity)
	next := filepath.Join(filepath.Dir(path), "next.yaml")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

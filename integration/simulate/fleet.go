//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The built-in figures (DESIGN.md of the project; policies.Policy).
const (
	budgetTokens = 500
	retryTokens  = 14
	attempts     = 3
	openFor      = 5 * time.Second
	openMost     = 60 * time.Second
	runOfFailure = 20
	// ramp is how long a closing circuit lets a growing part of the calls pass.
	ramp = 2 * time.Second
)

// member of the fleet: one host, which is one budget and one circuit.
type caller struct {
	tokens  int
	run     int           // of failures
	until   time.Duration // open until; 0: closed
	openFor time.Duration
	closed  time.Duration // since when, for the ramp
}

// fleet is what hosts do to one upstream that dies for a time, each host
// calling at rate.
type fleet struct {
	calls, sent   int           // while it is down
	most          int           // attempts in the worst 100 ms while it is down
	opened        time.Duration // until 99 % of the hosts had opened
	probes        int           // in the worst second of the outage's second half
	half, all     time.Duration // from the upstream's return to half and to 99 % of the normal traffic's being let through
	returnedWorst int           // attempts in the worst 100 ms after its return
}

// outage simulates steps of 10 ms.
func outage(hosts int, rate float64, down time.Duration, seed uint64) fleet {
	const step = 10 * time.Millisecond
	random := rand.New(rand.NewPCG(seed, 10))
	all := make([]caller, hosts)
	for i := range all {
		all[i] = caller{tokens: budgetTokens, openFor: openFor, closed: -time.Hour}
	}
	var f fleet
	var window [10]int // attempts of the last steps
	probes := 0
	perStep := rate * step.Seconds()
	for now, i := time.Duration(0), 0; now < down+3*time.Minute; now, i = now+step, i+1 {
		isDown := now < down
		sent, let, wanted, open := 0, 0, 0, 0
		for k := range all {
			h := &all[k]
			n := int(perStep)
			if random.Float64() < perStep-float64(n) {
				n++
			}
			wanted += n
			if h.until != 0 {
				open++
			}
			for range n {
				if isDown {
					f.calls++
				}
				if h.until != 0 {
					if now < h.until {
						continue
					}
					// One probe for the host; its answer comes within the step.
					sent++
					probes++
					if isDown {
						h.openFor = min(2*h.openFor, openMost)
						h.until = now + jitter(random, h.openFor)
						continue
					}
					*h = caller{tokens: h.tokens, openFor: openFor, closed: now}
					let++
					continue
				}
				if part := float64(now-h.closed) / float64(ramp); part < 1 && random.Float64() > part {
					continue
				}
				let++
				for try := range attempts {
					if try > 0 {
						if h.tokens < retryTokens {
							break
						}
						h.tokens -= retryTokens
					}
					sent++
					if !isDown {
						h.tokens, h.run = min(h.tokens+1, budgetTokens), 0
						break
					}
					if h.run++; h.run >= runOfFailure {
						h.until = now + jitter(random, h.openFor)
						break
					}
				}
			}
		}
		window[i%len(window)] = sent
		total := 0
		for _, n := range window {
			total += n
		}
		switch {
		case isDown:
			f.sent += sent
			f.most = max(f.most, total)
			if f.opened == 0 && open*100 >= 99*hosts {
				f.opened = now
			}
			if now%time.Second == 0 {
				if now > down/2 {
					f.probes = max(f.probes, probes)
				}
				probes = 0
			}
		default:
			f.returnedWorst = max(f.returnedWorst, total)
			if f.half == 0 && 2*let >= wanted {
				f.half = now - down
			}
			if f.all == 0 && open*100 <= hosts && let*100 >= 95*wanted {
				f.all = now - down
				return f
			}
		}
	}
	return f
}

// jitter draws between half and all of d.
func jitter(random *rand.Rand, d time.Duration) time.Duration {
	return d/2 + time.Duration(random.Int64N(int64(d/2)))
}

// fleetTable tries more and more hosts.
func fleetTable(most int, seed uint64) {
	const rate = 10.0
	fmt.Printf("\nHosts on one upstream, %v calls/s each, which is down for 60 s; nothing is shared between hosts\n", rate)
	fmt.Printf("%8s %12s %14s %12s %12s %14s %14s %16s\n", "hosts", "sent/called", "worst 100 ms", "all open", "probes/s", "half is back", "all is back", "least in flight")
	for n := 10; ; n = min(10*n, most) {
		f := outage(n, rate, time.Minute, seed)
		normal := float64(n) * rate / 10
		fmt.Printf("%8d %12.4f %13.2fx %12v %12d %14v %14v %16d\n", n, float64(f.sent)/float64(f.calls), float64(f.most)/normal,
			f.opened.Round(time.Millisecond), f.probes, f.half.Round(time.Millisecond), f.all.Round(time.Millisecond), n)
		if n == most {
			break
		}
	}
	fmt.Println("least in flight: a limit of one permit a host, the smallest there is, lets so many calls be in flight together")
}

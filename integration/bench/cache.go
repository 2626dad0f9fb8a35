package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/gregjones/httpcache"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// Parts of the cache, and what is compared in them.
const (
	partHit       = "cache: a fresh answer of 10 KiB, read"
	partMiss      = "cache: an answer of 10 KiB that is stored, read"
	partEntry     = "cache: memory for each answer of 10 KiB, over its body"
	partNotStored = "cache: an answer that is not stored"

	cacheOurs = "resagent, serve_fresh"
	cachePeer = "gregjones/httpcache"

	fallbackOff = "resagent, fallback off"
	fallbackOn  = "resagent, fallback on"
)

// answers is a base that gives 10 KiB that may be kept, or with a header that
// forbids it.
type answers struct {
	control string
	body    []byte
}

func (p answers) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{
			"Cache-Control": {p.control}, "Content-Type": {"text/plain"}, "Date": {time.Now().UTC().Format(http.TimeFormat)},
			"Etag": {`"1"`}, "Content-Length": {strconv.Itoa(len(p.body))},
		},
		Body: io.NopCloser(bytes.NewReader(p.body)), ContentLength: int64(len(p.body)),
	}, nil
}

var cacheable = answers{"max-age=3600", bytes.Repeat([]byte("x"), 10<<10)}

// cachers makes each library's cache over a base, empty.
func cachers(base http.RoundTripper) (map[string]func() http.RoundTripper, error) {
	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": {
		Match:    []policies.Match{{Host: "upstream.test"}},
		Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: true}},
	}}})
	if err != nil {
		return nil, err
	}
	return map[string]func() http.RoundTripper{
		bare: func() http.RoundTripper { return base },
		cachePeer: func() http.RoundTripper {
			t := httpcache.NewTransport(httpcache.NewMemoryCache())
			t.Transport = base
			return t
		},
		cacheOurs: func() http.RoundTripper {
			return &transport.Transport{Base: base, Policies: set, Agent: alone(), Cache: &fallbackcache.Cache{MaxBytes: 1 << 30}}
		},
	}, nil
}

// caches measures answers from a cache, storing them, and what the fallback
// costs a call that has nothing to do with it.
func caches(book *book) error {
	makes, err := cachers(cacheable)
	if err != nil {
		return err
	}
	one := func() (*http.Request, error) {
		return http.NewRequest(http.MethodGet, "http://upstream.test/page", nil)
	}
	var hits, misses []contestant
	for _, name := range []string{bare, cachePeer, cacheOurs} {
		hits = append(hits, contestant{name: name, run: func(b *testing.B) {
			t := makes[name]()
			if err := fetch(t, one); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := fetch(t, one); err != nil {
					b.Fatal(err)
				}
			}
		}})
		misses = append(misses, contestant{name: name, run: func(b *testing.B) {
			t, i := makes[name](), 0
			for b.Loop() {
				if i++; i%4096 == 0 {
					t = makes[name]() // the peer's grows without end
				}
				if err := fetch(t, numbered(i)); err != nil {
					b.Fatal(err)
				}
			}
		}})
	}
	if err := book.race(partHit, hits); err != nil {
		return err
	}
	if err := book.race(partMiss, misses); err != nil {
		return err
	}
	for _, name := range []string{cachePeer, cacheOurs} {
		s := Series{Part: partEntry, Name: name, Unit: "B"}
		for range book.rounds {
			n, err := perEntry(name)
			if err != nil {
				return err
			}
			s.Values = append(s.Values, rounded(n))
		}
		book.add(s)
	}
	return notStored(book)
}

// numbered makes a request that none before was like.
func numbered(i int) func() (*http.Request, error) {
	return func() (*http.Request, error) {
		return http.NewRequest(http.MethodGet, fmt.Sprintf("http://upstream.test/page/%d", i), nil)
	}
}

// fetch makes a call and reads its answer to the end.
func fetch(t http.RoundTripper, make func() (*http.Request, error)) error {
	req, err := make()
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || int(n) != len(cacheable.body) {
		return fmt.Errorf("read %d bytes: %v", n, err)
	}
	return resp.Body.Close()
}

// entry is a process that stores answers and says what each took of its heap,
// over the bytes of its body. It has nothing else, so nothing of before is freed
// meanwhile.
func entry() error {
	const n = 5000
	makes, err := cachers(cacheable)
	if err != nil {
		return err
	}
	fmt.Println() // ready
	t := makes[os.Getenv(childArg)]()
	before := heapInUse()
	for i := range n {
		if err := fetch(t, numbered(i)); err != nil {
			return err
		}
	}
	fmt.Println((heapInUse()-before)/n - float64(len(cacheable.body)))
	runtime.KeepAlive(t)
	return nil
}

func heapInUse() float64 {
	runtime.GC()
	runtime.GC() // what pools hold survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// perEntry asks one of them.
func perEntry(name string) (n float64, err error) {
	p, err := (&host{}).spawn("entry", name)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	_, err = fmt.Fscan(p.out, &n)
	return n, err
}

// notStored measures the chain over a base whose answers say no-store, with the
// fallback off and on.
func notStored(book *book) error {
	base := answers{control: "no-store"}
	get, err := http.NewRequest(http.MethodGet, "http://upstream.test/page", nil)
	if err != nil {
		return err
	}
	var all []contestant
	for _, name := range []string{fallbackOff, fallbackOn} {
		var stale *policies.Fallback
		if name == fallbackOn {
			stale = &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour}}
		}
		set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": {
			Match: []policies.Match{{Host: "upstream.test"}}, Fallback: stale,
		}}})
		if err != nil {
			return err
		}
		t := &transport.Transport{Base: base, Policies: set, Agent: alone()}
		all = append(all, contestant{name: name, run: func(b *testing.B) { again(b, t, func() (*http.Request, error) { return get, nil }) }})
	}
	return book.race(partNotStored, all)
}

// cacheRows are the budget's lines about the cache.
func cacheRows(r *Results) []row {
	return []row{
		part(r, "A fresh answer of 10 KiB from the cache, beside gregjones/httpcache, less the bare base", "at most 0.5 of it", partHit, cacheOurs, cachePeer, bare, 0.5, ""),
		part(r, "An answer of 10 KiB that is stored, beside the same", "at most 1 of it", partMiss, cacheOurs, cachePeer, bare, 1, "our call has its other layers too"),
		atMost(r, "Memory for each answer, over its body", "at most 2 KiB", partEntry, cacheOurs, 2048, 1, "B"),
		fallbackCost(r),
	}
}

// fallbackCost is what the fallback adds to a call that it has no answer for.
func fallbackCost(r *Results) row {
	what, goal := "Fallback on, beside off, for an answer that is not stored", "at most 300 ns and 3 allocations more"
	on, off := r.find(partNotStored, fallbackOn), r.find(partNotStored, fallbackOff)
	if on == nil || off == nil {
		return unmeasured(what, goal)
	}
	more := make([]float64, min(len(on.Values), len(off.Values)))
	for i := range more {
		more[i] = on.Values[i] - off.Values[i]
	}
	s, allocs := summary(more), on.Allocs-off.Allocs
	return judged(what, goal, fmt.Sprintf("%.0f ns %s, %d allocations", s.Center, spread(s), allocs), s.Center <= 300 && allocs <= 3, "")
}

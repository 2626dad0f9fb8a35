package main

import (
	"math"
	"runtime"
	"strconv"
	"testing"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/maypok86/otter/v2"
)

// keeper is a library that could hold the answers of fallbackcache in memory,
// bounded by the bytes that its caller names.
type keeper interface {
	set(key string, value []byte)
	get(key string) bool
	held() int64 // bytes, as its entries can be seen
	close()
}

const keeperBytes = 16 << 20

// simple is golang-lru's simplelru, which counts entries: the bytes are ours.
type simple struct {
	lru   *simplelru.LRU[string, []byte]
	bytes int64
}

func newSimple() keeper {
	s := new(simple)
	s.lru, _ = simplelru.NewLRU(math.MaxInt, func(_ string, v []byte) { s.bytes -= int64(len(v)) })
	return s
}

func (s *simple) set(key string, v []byte) {
	s.lru.Remove(key)
	s.lru.Add(key, v)
	for s.bytes += int64(len(v)); s.bytes > keeperBytes; {
		s.lru.RemoveOldest()
	}
}
func (s *simple) get(key string) bool { _, ok := s.lru.Get(key); return ok }
func (s *simple) held() int64         { return s.bytes }
func (s *simple) close()              {}

// weighed is otter with its own weights. Inline runs its upkeep in the caller.
type weighed struct{ *otter.Cache[string, []byte] }

func newWeighed(inline bool) func() keeper {
	return func() keeper {
		o := &otter.Options[string, []byte]{MaximumWeight: keeperBytes, Weigher: func(_ string, v []byte) uint32 { return uint32(len(v)) }}
		if inline {
			o.Executor = func(f func()) { f() }
		}
		return weighed{otter.Must(o)}
	}
}

func (w weighed) set(key string, v []byte) { w.Set(key, v) }
func (w weighed) get(key string) bool      { _, ok := w.GetIfPresent(key); return ok }
func (w weighed) held() (n int64) {
	for _, v := range w.All() {
		n += int64(len(v))
	}
	return n
}
func (w weighed) close() { w.StopAllGoroutines() }

// costed is ristretto, with its own costs.
type costed struct {
	*ristretto.Cache[string, []byte]
	keys []string
}

func newCosted() keeper {
	c, err := ristretto.NewCache(&ristretto.Config[string, []byte]{NumCounters: 20_000, MaxCost: keeperBytes, BufferItems: 64, IgnoreInternalCost: true})
	if err != nil {
		panic(err)
	}
	return &costed{Cache: c}
}

func (c *costed) set(key string, v []byte) {
	c.Set(key, v, int64(len(v)))
	c.keys = append(c.keys, key)
}
func (c *costed) get(key string) bool { _, ok := c.Get(key); return ok }
func (c *costed) held() (n int64) {
	for _, key := range c.keys {
		if v, ok := c.Get(key); ok {
			n += int64(len(v))
		}
	}
	return n
}
func (c *costed) close() { c.Close() }

var keepers = []struct {
	name string
	make func() keeper
}{
	{"golang-lru", newSimple}, {"otter", newWeighed(false)}, {"otter, upkeep inline", newWeighed(true)}, {"ristretto", newCosted},
}

// What decided which library holds the answers (DESIGN.md, "The memory
// store"): a hit; how far the bound is overstepped, and how much of what was
// just stored is not found, while values of up to 1 MiB come in; what an entry
// costs with its key and no value; and the goroutines it starts.
func BenchmarkKeepers(b *testing.B) {
	for _, one := range keepers {
		b.Run(one.name, func(b *testing.B) {
			before := runtime.NumGoroutine()
			k := one.make()
			open := runtime.NumGoroutine() - before
			most, lost, sets := int64(0), 0, 0
			for i := range 600 {
				key := strconv.Itoa(i)
				k.set(key, make([]byte, i*7919%(1<<20)))
				sets++
				if i%8 == 0 {
					if most = max(most, k.held()); !k.get(key) {
						lost++
					}
				}
			}
			k.close()

			k = one.make()
			defer k.close()
			empty := heapInUse()
			keys := make([]string, 10_000)
			for i := range keys {
				keys[i] = "http\x00upstream.test\x00/items/" + strconv.Itoa(i)
				k.set(keys[i], nil)
			}
			each := (heapInUse() - empty) / float64(len(keys))
			for i := 0; b.Loop(); i++ {
				k.get(keys[i%len(keys)])
			}
			runtime.KeepAlive(keys)
			b.ReportMetric(float64(open), "goroutines")
			b.ReportMetric(float64(most)/keeperBytes, "of-bound")
			b.ReportMetric(float64(lost)/float64(sets/8)*100, "%lost-at-once")
			b.ReportMetric(each, "B/entry")
		})
	}
}

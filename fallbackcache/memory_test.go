package fallbackcache

import (
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// check compares the memory's sums with what is in it.
func check(t *testing.T, m *memory) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var total int64
	for key, g := range pairs(m) {
		if g.key != key || !m.uris[g.key.uri][g.key.who] {
			t.Errorf("group %q is not found by its key", g.key.uri)
		}
		if len(g.variants) == 0 || sum(g.variants) != g.size {
			t.Errorf("group %q counts %d bytes and has %d", g.key.uri, g.size, sum(g.variants))
		}
		total += g.size
	}
	ways := 0
	for _, audiences := range m.uris {
		ways += len(audiences)
	}
	if ways != m.groups.Len() {
		t.Errorf("%d groups, %d by URI", m.groups.Len(), ways)
	}
	if total != m.stored {
		t.Errorf("counts %d bytes and has %d", m.stored, total)
	}
	if m.stored+m.recording > m.max {
		t.Errorf("holds %d and records %d bytes of %d", m.stored, m.recording, m.max)
	}
}

func pairs(m *memory) map[groupKey]*group {
	out := map[groupKey]*group{}
	for _, key := range m.groups.Keys() {
		out[key], _ = m.groups.Peek(key)
	}
	return out
}

func numbered(t testing.TB, i int) *http.Request {
	return get(t, "http://upstream.test/items/"+strconv.Itoa(i))
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	cache := &Cache{MaxBytes: 64 << 10}
	body := strings.Repeat("x", 4<<10)
	for i := range 100 {
		keep(t, cache, start, numbered(t, i), 200, body)
		if got := found(t, cache, start, time.Hour, numbered(t, 0)); got != body {
			t.Fatalf("the one that is asked for all the time went out after %d others", i)
		}
		check(t, &cache.memory)
	}
	if got := found(t, cache, start, time.Hour, numbered(t, 1)); got != none {
		t.Error("the oldest one is still there")
	}
	if got := found(t, cache, start, time.Hour, numbered(t, 99)); got != body {
		t.Error("the newest one is not there")
	}
}

// The bytes a Cache counts are the bytes Go needs for it.
func TestMemoryBound(t *testing.T) {
	for _, size := range []int{0, 200, 10 << 10} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			const limit = 16 << 20
			before := heap()
			cache := &Cache{MaxBytes: limit}
			for i := range 40_000 {
				if size > 0 && i*size > 2*limit {
					break
				}
				req := numbered(t, i)
				if i%2 == 0 {
					req.Header.Set("Authorization", "Bearer "+strconv.Itoa(i))
				}
				keep(t, cache, start, req, 200, strings.Repeat("x", size),
					"Content-Type: application/json", "Date: Mon, 23 Nov 2026 12:00:00 GMT", `ETag: "`+strconv.Itoa(i)+`"`,
					"Cache-Control: max-age=60, stale-if-error=3600", "Vary: Accept-Encoding", "X-Request-Id: "+strconv.Itoa(i))
			}
			check(t, &cache.memory)
			got, counted := heap()-before, cache.memory.stored
			t.Logf("%d entries: counted %d bytes, heap %d bytes", cache.memory.groups.Len(), counted, got)
			if counted < limit*9/10 {
				t.Errorf("the cache is not full: %d of %d bytes", counted, limit)
			}
			if got > limit*11/10 {
				t.Errorf("heap grew by %d bytes with a limit of %d", got, limit)
			}
			runtime.KeepAlive(cache)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestRecordingsAreBounded(t *testing.T) {
	cache := &Cache{MaxBytes: 64 << 10, MaxObject: 64 << 10}
	keep(t, cache, start, numbered(t, 1000), 200, "small")
	var open []*http.Response
	for i := range 20 {
		req := numbered(t, i)
		resp := cache.Keep(req, response(t, req, 200, strings.Repeat("x", 10<<10)), start)
		if n, err := io.ReadFull(resp.Body, make([]byte, 9<<10)); err != nil {
			t.Fatalf("read %d bytes: %v", n, err)
		}
		open = append(open, resp)
		check(t, &cache.memory)
	}
	if half := cache.memory.max / 2; recording(cache) > half {
		t.Errorf("%d bytes are being recorded, want at most %d", recording(cache), half)
	}
	for i, resp := range open {
		if got := len(drain(t, resp)); got != 1<<10 {
			t.Errorf("the rest of body %d has %d bytes", i, got)
		}
	}
	check(t, &cache.memory)
	if recording(cache) != 0 {
		t.Errorf("%d bytes are still held", recording(cache))
	}
	if got := found(t, cache, start, time.Hour, numbered(t, 1000)); got != "small" {
		t.Error("recordings drove out what there was room for")
	}
}

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		cache *Cache
		size  int
		want  bool
	}{
		"zero value":              {&Cache{}, 4 << 20, true},
		"above the default":       {&Cache{}, 4<<20 + 1, false},
		"at MaxObject":            {&Cache{MaxObject: 100}, 100, true},
		"above MaxObject":         {&Cache{MaxObject: 100}, 101, false},
		"above half of MaxBytes":  {&Cache{MaxBytes: 10_000}, 5_000, false},
		"nothing at all":          {&Cache{MaxBytes: -1}, 0, false},
		"empty bodies only":       {&Cache{MaxObject: -1}, 0, true},
		"empty bodies only, full": {&Cache{MaxObject: -1}, 1, false},
	} {
		keep(t, c.cache, start, get(t, page), 200, strings.Repeat("x", c.size))
		if got := found(t, c.cache, start, time.Hour, get(t, page)) != none; got != c.want {
			t.Errorf("%s: a body of %d bytes stored: %v, want %v", name, c.size, got, c.want)
		}
	}
}

func TestHugeHeaderIsNotStored(t *testing.T) {
	cache := &Cache{MaxBytes: 64 << 10}
	keep(t, cache, start, get(t, page), 200, "x", "X-Big: "+strings.Repeat("x", 40<<10))
	if got := found(t, cache, start, time.Hour, get(t, page)); got != none {
		t.Error("an answer that takes more than half of the cache is stored")
	}
}

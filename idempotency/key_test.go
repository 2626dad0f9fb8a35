package idempotency

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var uuid7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// RFC 9562, section 5.7.
func TestNewKeyForm(t *testing.T) {
	before := time.Now().UnixMilli()
	key := NewKey()
	after := time.Now().UnixMilli()
	if !uuid7.MatchString(key) {
		t.Fatalf("%q is no version 7 UUID in lower case", key)
	}
	at, err := strconv.ParseInt(strings.ReplaceAll(key, "-", "")[:12], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	// A burst of keys before may have run a little ahead of the clock.
	if at < before || at > after+1000 {
		t.Errorf("%q was made at %d ms, not between %d and %d", key, at, before, after)
	}
}

func TestKeysAreNewAndInOrder(t *testing.T) {
	const workers, each = 8, 2000
	made := make([][]string, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for range each {
				made[i] = append(made[i], NewKey())
			}
		})
	}
	wg.Wait()
	for i, keys := range made {
		if !slices.IsSorted(keys) {
			t.Errorf("the keys of goroutine %d are not in the order in which they were made", i)
		}
	}
	all := slices.Concat(made...)
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != workers*each {
		t.Errorf("%d keys, of which %d are different", workers*each, n)
	}
}

func TestTheRandomPartIsRandom(t *testing.T) {
	seen := map[string]bool{}
	var ones [12 * 4]int
	const n = 1000
	for range n {
		tail := NewKey()[24:]
		seen[tail] = true
		bits, _ := strconv.ParseUint(tail, 16, 64)
		for i := range ones {
			ones[i] += int(bits >> i & 1)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d random parts are different", len(seen), n)
	}
	for i, count := range ones {
		if count < n/3 || count > n*2/3 {
			t.Errorf("bit %d is set in %d of %d keys", i, count, n)
		}
	}
}

// In a synctest bubble the clock stands at 2000-01-01, long before the keys
// made so far.
func TestClockSetBack(t *testing.T) {
	before := NewKey()
	synctest.Test(t, func(t *testing.T) {
		first, second := NewKey(), NewKey()
		if !(before < first && first < second) {
			t.Errorf("%s, then with the clock set back %s and %s", before, first, second)
		}
	})
}

func TestTick(t *testing.T) {
	base := time.Date(2126, 1, 1, 0, 0, 0, 500_000, time.UTC) // half a millisecond
	old := newest.Load()
	defer newest.Store(old)
	got := tick(base)
	if want := uint64(base.UnixMilli())<<12 | 2048; got != want {
		t.Errorf("tick of half a millisecond: %x, want %x", got, want)
	}
	if next := tick(base); next != got+1 {
		t.Errorf("the second tick of the same time: %x, want %x", next, got+1)
	}
	newest.Store(0)
	if got := tick(time.Unix(-1, 0)); got != 1 {
		t.Errorf("a time before 1970: %x, want 1", got)
	}
}

func BenchmarkNewKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewKey()
	}
}

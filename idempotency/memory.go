package idempotency

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// recordBytes is about what a key costs beside its answer: its record, its
// place in the map and in the heap.
const recordBytes = 256

// Memory is a [Store] of one process: what it holds ends with the process. Its
// zero value is ready to use. Its clock does not jump with the host's.
type Memory struct {
	// MaxBytes bounds what is held, in bytes; 0: 256 MiB. Beyond, new keys
	// are refused with [ErrFull]; no key goes before its TTL.
	MaxBytes int64

	mu      sync.Mutex
	records map[ID]*record
	order   order // by the end of the TTL
	bytes   int64
	token   uint64
}

// record is one key. It is done when it has an answer.
type record struct {
	id     ID
	print  Fingerprint
	token  uint64
	lease  time.Time
	over   time.Time // end of the TTL
	answer []byte    // as MarshalBinary gives it: a third of the bytes of a map
	place  int       // in the heap
}

func (r *record) size() int64 { return recordBytes + int64(len(r.answer)) }

// Claim implements [Store].
func (m *Memory) Claim(_ context.Context, id ID, print Fingerprint, lease, ttl time.Duration) (Claim, error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune(now)
	r := m.records[id]
	if r != nil && !now.Before(r.over) {
		m.remove(r)
		r = nil
	}
	switch {
	case r == nil:
	case r.print != print:
		return Claim{State: Mismatch}, nil
	case r.answer != nil:
		answer := new(Answer)
		if err := answer.UnmarshalBinary(r.answer); err != nil {
			return Claim{}, err
		}
		return Claim{State: Done, Answer: answer}, nil
	case now.Before(r.lease):
		return Claim{State: Running, Wait: r.lease.Sub(now)}, nil
	}
	m.token++
	again := r != nil
	if r == nil {
		if limit := m.limit(); m.bytes+recordBytes > limit {
			return Claim{}, fmt.Errorf("%w: %d keys in %d bytes; raise Memory.MaxBytes or shorten the TTL", ErrFull, len(m.records), m.bytes)
		}
		r = &record{id: id, print: print, over: now.Add(ttl)}
		if m.records == nil {
			m.records = make(map[ID]*record)
		}
		m.records[id] = r
		heap.Push(&m.order, r)
		m.bytes += r.size()
	}
	r.token, r.lease = m.token, now.Add(lease)
	m.until(r, now.Add(ttl))
	return Claim{State: Claimed, Token: r.token, Again: again}, nil
}

// Renew implements [Store].
func (m *Memory) Renew(_ context.Context, id ID, token uint64, lease time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.run(id, token)
	if r == nil {
		return ErrLost
	}
	r.lease = time.Now().Add(lease)
	return nil
}

// Complete implements [Store]. The answer of a key that has been claimed is
// taken in also where it goes beyond MaxBytes: it is the next key that is
// refused then.
func (m *Memory) Complete(_ context.Context, id ID, token uint64, answer *Answer, ttl time.Duration) error {
	data, err := answer.MarshalBinary()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.run(id, token)
	if r == nil {
		return ErrLost
	}
	r.answer = data
	m.bytes += int64(len(data))
	m.until(r, time.Now().Add(ttl))
	return nil
}

// Release implements [Store].
func (m *Memory) Release(_ context.Context, id ID, token uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.run(id, token)
	if r == nil {
		return ErrLost
	}
	m.remove(r)
	return nil
}

// Len gives the number of keys held. It is safe for concurrent use.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

func (m *Memory) limit() int64 {
	if m.MaxBytes > 0 {
		return m.MaxBytes
	}
	return 256 << 20
}

// run finds the record that a run holds.
func (m *Memory) run(id ID, token uint64) *record {
	if r := m.records[id]; r != nil && r.token == token && r.answer == nil {
		return r
	}
	return nil
}

// prune removes a few records that are over. Each claim adds at most one, so
// two each keep up, and none has to stop for all.
func (m *Memory) prune(now time.Time) {
	for range 2 {
		if len(m.order) == 0 || now.Before(m.order[0].over) {
			return
		}
		m.remove(m.order[0])
	}
}

func (m *Memory) until(r *record, over time.Time) {
	r.over = over
	heap.Fix(&m.order, r.place)
}

func (m *Memory) remove(r *record) {
	heap.Remove(&m.order, r.place)
	delete(m.records, r.id)
	m.bytes -= r.size()
}

// order is a heap of records, the first to be over on top.
type order []*record

func (o order) Len() int           { return len(o) }
func (o order) Less(i, j int) bool { return o[i].over.Before(o[j].over) }
func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i, j
}
func (o *order) Push(x any) {
	r := x.(*record)
	r.place = len(*o)
	*o = append(*o, r)
}
func (o *order) Pop() any {
	last := len(*o) - 1
	r := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	return r
}

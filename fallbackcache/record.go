package fallbackcache

import (
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
)

// recorder is a response body that is remembered while the caller reads it.
// It asks the body for nothing the caller did not ask for, and passes on
// exactly what came. What the caller did not read to its end is not stored; of a
// body of known length its last byte will do: over HTTP/2 its end comes in a Read
// of its own, which who decodes JSON does not make.
type recorder struct {
	body     io.ReadCloser
	from, to *http.Response // the base's response, and the caller's copy

	entry *entry // nil once the recording is given up or done
	over  []*entry
	asked Stamp
	want  int64 // length of the body, negative when not known
	limit int64
	buf   []byte
	cache *Cache
	room  *room

	flight *Flight // that ends with the recording; nil: none

	ready atomic.Pointer[entry] // all has come but the end: Close may store it

	told   func(Fate)
	ended  atomic.Bool
	closed atomic.Bool // Close may run beside Read
}

func record(c *Cache, e *entry, over []*entry, asked Stamp, resp *http.Response, limit int64) (*http.Response, *recorder) {
	out := new(http.Response)
	*out = *resp
	r := &recorder{
		body: resp.Body, from: resp, to: out,
		entry: e, over: over, asked: asked,
		want: resp.ContentLength, limit: limit,
		cache: c, room: &room{memory: &c.memory},
	}
	if resp.Uncompressed {
		r.want = -1
	}
	// A caller that forgets to close must not shrink the cache for good.
	runtime.AddCleanup(r, (*room).release, r.room)
	out.Body = r
	return out, r
}

// ride has the flight end with the recording, also if its caller forgets to
// close.
func (r *recorder) ride(f *Flight) {
	f.riding = true
	r.flight = f
	runtime.AddCleanup(r, (*Flight).End, f)
}

// Read implements io.Reader.
func (r *recorder) Read(p []byte) (int, error) {
	e := r.entry
	r.entry = nil // so that a panic below leaves nothing half-recorded
	if e == nil {
		e = r.ready.Swap(nil)
	}
	n, err := r.body.Read(p)
	if err != nil {
		// net/http fills unannounced trailers into the response it made.
		r.to.Trailer = r.from.Trailer
	}
	if e == nil {
		return n, err
	}
	fate := Incomplete
	if n >= 0 && n <= len(p) && (err == nil || err == io.EOF) && !r.closed.Load() {
		fate = r.keep(p[:n])
	}
	if fate != pending {
		if r.flight != nil && int64(len(r.buf)+n) > r.limit {
			r.flight.wasVain(r.flight.began)
		}
		r.end(fate)
		return n, err
	}
	// What a trailer adds may be the news that the body is wrong.
	plain := len(r.from.Trailer) == 0
	switch all := int64(len(r.buf)) == r.want; {
	case err == nil && all && plain:
		r.ready.Store(e)
	case err == nil:
		r.entry = e
	case plain && (all || r.want < 0):
		r.store(e)
	default:
		r.end(Incomplete)
	}
	return n, err
}

// store ends the recording with all of the body.
func (r *recorder) store(e *entry) {
	body := r.buf
	if cap(body) > len(body)+len(body)/8 {
		body = slices.Clone(body)
	}
	r.room.release()
	e.complete(slices.Clip(body))
	fate := r.cache.put(e, r.over, r.asked)
	if r.flight != nil {
		r.flight.end(fate != Superseded)
	}
	r.end(fate)
}

// whole is the length up to which a body's room is taken at once. More is not
// taken on the word of a server that may never send it.
const whole = 32 << 10

// keep appends b, growing by doubling but never past a length that is known. It
// returns pending, or why the recording is at its end.
func (r *recorder) keep(b []byte) Fate {
	need := int64(len(r.buf) + len(b))
	switch {
	case r.want >= 0 && need > r.want:
		return Incomplete
	case need > r.limit:
		return TooLarge
	}
	if have := int64(cap(r.buf)); need > have {
		size := max(need, 2*have, 512)
		if 0 <= r.want && (r.want < size || r.want <= whole) {
			size = r.want
		}
		if !r.room.grow(size - have) {
			return TooLarge
		}
		grown := make([]byte, len(r.buf), size)
		copy(grown, r.buf)
		r.buf = grown
	}
	r.buf = append(r.buf, b...)
	return pending
}

func (r *recorder) end(fate Fate) {
	r.buf, r.over = nil, nil
	r.room.release()
	if r.flight != nil {
		r.flight.End()
	}
	if !r.ended.Swap(true) {
		r.cache.ended(fate, r.told)
	}
}

// Close implements io.Closer.
func (r *recorder) Close() error {
	if r.closed.Swap(true) {
		return r.body.Close()
	}
	if e := r.ready.Swap(nil); e != nil {
		r.store(e)
	} else {
		r.room.release()
		if r.flight != nil {
			r.flight.End()
		}
		if !r.ended.Swap(true) {
			r.cache.ended(Incomplete, r.told)
		}
	}
	return r.body.Close()
}

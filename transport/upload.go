package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"
)

// keepMost is how much of a request body without GetBody is kept for another
// attempt.
const keepMost = 64 << 10

// upload is the body of one logical request: what the attempts read of it, and
// its one Close.
//
// With GetBody, each attempt after the first gets a fresh one and nothing is
// copied. Without it, what is sent is kept up to a limit; another attempt
// reads what was kept and then the rest. That needs the earlier attempt's
// reader to be closed, which net/http may do after it has returned.
type upload struct {
	c     *call
	get   func() (io.ReadCloser, error) // the request's GetBody; nil: none
	plain bool                          // the base gets the body itself

	mu     sync.Mutex // guards what follows
	src    io.ReadCloser
	closed bool     // src
	opens  int      // readers made for attempts
	within *attempt // that the base has not returned from; nil: none
	last   bool     // no attempt begins any more: src ends with its reader
	keep   int      // bytes that may be kept
	prefix []byte   // what was read of src
	lost   bool     // more was read than kept
	failed error    // of reading src

	first  uploadReader
	reader *uploadReader // of the newest attempt
	holder *uploadReader // the newest that reads src
}

// openUpload looks at the request's body.
func (c *call) openUpload() {
	if c.req.Body == nil || c.req.Body == http.NoBody {
		return
	}
	c.upload = &upload{c: c, src: c.req.Body, get: c.req.GetBody}
	c.upload.plain = c.upload.get != nil && c.req.ContentLength > 0 && c.req.ContentLength <= plainMost && inMemory(c.req.Body)
}

// plainMost is the longest body in memory that is given to the base as it is.
// It fits in one write of net/http, which sends it together with the headers
// if it knows the type; there is no progress to see, and its Close does
// nothing.
const plainMost = 4 << 10

var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

// inMemory says whether a body is one that http.NewRequest makes of a
// bytes.Reader, a bytes.Buffer or a strings.Reader.
func inMemory(body io.ReadCloser) bool {
	t := reflect.TypeOf(body)
	return t == nopCloser || t == nopCloserWriterTo
}

// plan says how much is to be kept in case of another attempt. Negative: there
// will be none.
func (u *upload) plan(keep int) {
	u.mu.Lock()
	u.keep, u.last = max(0, keep), keep < 0
	u.mu.Unlock()
}

// errBodyBusy: the base still reads the earlier attempt's body.
var errBodyBusy = errors.New("transport: the request body cannot be sent again: the base still reads it")

// errBodyGone: of what was read for an earlier attempt not all was kept.
var errBodyGone = errors.New("transport: " + bodyGone)

// bodyGone says why there is no further attempt.
const bodyGone = "the request body cannot be sent again"

// open gives an attempt its body.
func (u *upload) open(a *attempt) (io.ReadCloser, error) {
	u.mu.Lock()
	again := u.opens > 0
	u.opens++
	u.within = a
	earlier := u.reader
	u.mu.Unlock()
	r := &u.first
	if again {
		r = new(uploadReader)
	}
	r.u, r.a = u, a
	switch {
	case u.plain && !again:
		return u.src, nil
	case u.get != nil && again:
		body, err := u.get()
		if err != nil {
			return nil, err
		}
		r.own = body
	case again:
		if err := earlier.wait(a); err != nil {
			return nil, err
		}
		if !u.again() { // by a Read that was under way
			return nil, errBodyGone
		}
	}
	u.mu.Lock()
	u.reader = r
	if r.own == nil {
		u.holder = r
	}
	u.mu.Unlock()
	return r, nil
}

// outlasts says whether the base still sends the body of an attempt. Then the
// attempt's context ends when it has done so.
func (u *upload) outlasts(a *attempt) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.reader
	if r == nil || r.a != a || r.closed || r.ended {
		return false
	}
	r.lasts = true
	return true
}

// replay is the inner request's GetBody. Only the base calls it, to send a
// request again by itself: unseen by budget and breaker, so that is counted.
func (u *upload) replay() (io.ReadCloser, error) {
	body, err := u.get()
	if err != nil {
		return nil, err
	}
	body = &replayed{ReadCloser: body, c: u.c}
	if u.plain {
		return body, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reader = &uploadReader{u: u, a: u.reader.a, own: body}
	return u.reader, nil
}

// returned notes that the base has returned from an attempt.
func (u *upload) returned() {
	u.mu.Lock()
	u.within = nil
	u.mu.Unlock()
}

// replayed is a body by GetBody for the base, which may ask for one and then
// for another in its place: one that is read has been sent again.
type replayed struct {
	io.ReadCloser
	c    *call
	once sync.Once
}

func (r *replayed) Read(p []byte) (int, error) {
	r.once.Do(func() {
		r.c.replays.Add(1)
		r.c.t.tell(r.c.event(Replayed))
	})
	return r.ReadCloser.Read(p)
}

// again says whether another attempt can have the body from its beginning.
func (u *upload) again() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.repeatable()
}

// repeatable is again, with the lock.
func (u *upload) repeatable() bool {
	return u.get != nil || !u.lost && u.failed == nil && !u.last && !u.closed
}

// hold is again for a base that has given its answer and may go on reading, more
// than is kept: if the body can be had again no Read begins any more. A Read
// that is under way is waited for.
func (u *upload) hold(ctx context.Context) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.reader
	if r == nil || u.get != nil {
		return u.repeatable()
	}
	if r.busy {
		idle := make(chan struct{})
		r.idle, r.held = idle, true
		u.mu.Unlock()
		timer := time.NewTimer(letGo)
		select {
		case <-idle:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		u.mu.Lock()
		r.held = false
		return r.ended && u.repeatable()
	}
	r.ended = u.repeatable()
	return r.ended
}

// awaited says whether the newest attempt was cut off while it waited for the
// caller's own body.
func (u *upload) awaited() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reader != nil && (u.reader.busy || u.reader.late)
}

// broken is the error that the caller's own body gave.
func (u *upload) broken() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

// finish says that no further attempt begins. The body is closed now if no
// reader of it is open, else with that reader.
func (u *upload) finish() {
	u.mu.Lock()
	u.last = true
	idle := u.holder == nil || u.holder.closed
	u.mu.Unlock()
	if idle {
		u.close()
	}
}

// abort closes the body after a panic of the base, which may not have.
func (u *upload) abort() {
	u.mu.Lock()
	r := u.reader
	u.last = true
	u.mu.Unlock()
	if r != nil {
		r.Close()
	}
	u.close() // once
}

// close closes the caller's body once.
func (u *upload) close() error {
	u.mu.Lock()
	was := u.closed
	u.closed = true
	u.prefix = nil
	u.mu.Unlock()
	if was {
		return nil
	}
	return u.src.Close()
}

// uploadReader is one attempt's view of the body.
type uploadReader struct {
	u      *upload
	a      *attempt
	own    io.ReadCloser // a fresh body from GetBody; nil: the caller's
	off    int           // in u.prefix
	closed bool          // guarded by u.mu, like what follows
	ended  bool          // the attempt has: no Read begins any more
	busy   bool          // a Read is under way
	late   bool          // one was when the attempt ended
	held   bool          // with the Read under way it ends, if the body can be had again
	lasts  bool          // the attempt has its answer, and its context ends with this
	idle   chan struct{} // closed when it has ended; nil where nobody waits for it
}

// Read reads what was kept, then from the body, and notes that the upload
// moves.
func (r *uploadReader) Read(p []byte) (n int, err error) {
	u := r.u
	u.mu.Lock()
	if r.closed || r.ended || r.own == nil && u.closed {
		u.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	body := r.own
	if body == nil && r.off < len(u.prefix) {
		n = copy(p, u.prefix[r.off:])
		r.off += n
		u.mu.Unlock()
	} else {
		r.busy = true
		u.mu.Unlock()
		if body == nil {
			body = u.src
		}
		n, err = body.Read(p)
		r.have(p[:n], err)
	}
	if n > 0 {
		r.a.moved.Store(int64(r.a.c.since()))
	}
	return n, err
}

// have is the end of a Read of the body: what came of it is kept, if it is to
// be.
func (r *uploadReader) have(p []byte, err error) {
	u := r.u
	u.mu.Lock()
	r.busy = false
	if r.own == nil {
		if err != nil && err != io.EOF && !u.closed {
			u.failed = err
		}
		switch {
		case u.get != nil || u.last || len(p) == 0 || u.lost:
		case len(u.prefix)+len(p) > u.keep:
			u.lost, u.prefix = true, nil
		default:
			u.prefix = append(u.prefix, p...)
			r.off = len(u.prefix)
		}
	}
	ended := r.ended
	r.late = ended
	r.ended = ended || r.held && u.repeatable()
	if r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
	u.mu.Unlock()
	if ended {
		r.Close()
	}
}

// Close ends this view. The caller's body is closed with it if it cannot be
// read again anyway.
func (r *uploadReader) Close() error {
	u := r.u
	u.mu.Lock()
	if r.closed {
		u.mu.Unlock()
		return nil
	}
	r.closed = true
	if r.lasts {
		defer r.a.life.end(nil)
	}
	src := u.holder == r && (u.last || u.lost || u.get != nil)
	u.mu.Unlock()
	if r.own != nil {
		return r.own.Close()
	}
	if src {
		return u.close()
	}
	return nil
}

// end is Close for a base that has failed, and may have forgotten it. A Read
// that is still under way closes when it ends, unless the base does before.
func (r *uploadReader) end() {
	r.u.mu.Lock()
	r.ended = true
	busy := r.busy
	r.u.mu.Unlock()
	if !busy {
		r.Close()
	}
}

// letGo bounds the wait for a Read of the caller's body that is under way.
const letGo = time.Second

// interrupt ends an attempt's view after a timeout. Over HTTP/1.1 net/http does
// not return before a Read of the body has: under one that goes on for too long
// the body is closed, and most let go of it then.
func (u *upload) interrupt(a *attempt) {
	u.mu.Lock()
	r := u.reader
	if r == nil || r.a != a {
		u.mu.Unlock()
		return
	}
	r.ended = true
	busy := r.busy
	u.mu.Unlock()
	if !busy {
		return
	}
	time.Sleep(letGo)
	u.mu.Lock()
	stuck, was := r.busy && u.within == a, u.closed
	if stuck && r.own == nil { // with the lock: from here on no other attempt has it
		u.closed, u.prefix = true, nil
	}
	u.mu.Unlock()
	switch {
	case !stuck:
	case r.own != nil:
		r.Close()
	case !was:
		u.src.Close()
	}
}

// wait ends the view, for the base has ended its attempt and not every base
// closes the body, and waits for a Read that is still under way.
func (r *uploadReader) wait(a *attempt) error {
	if r == nil {
		return nil
	}
	r.u.mu.Lock()
	r.ended = true
	if !r.busy {
		r.u.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	r.idle = idle
	r.u.mu.Unlock()
	timer := time.NewTimer(letGo)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
		return errBodyBusy
	case <-a.life.Done():
		return errors.Join(errBodyBusy, a.cause())
	}
}

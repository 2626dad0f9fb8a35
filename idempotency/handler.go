package idempotency

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Options of a [Handler]. The zero value is useful for a server of one
// process that may forget its keys when it ends.
type Options struct {
	// Store of keys and answers; nil: a new [Memory] of this Handler's own.
	// Handlers may share one.
	Store Store
	// Header that carries the key; empty: [Header].
	Header string
	// Methods that are looked after, other ones go to the handler as they
	// are; nil: POST and PATCH.
	Methods []string
	// Required answers a request without a key with 400. Else it goes to the
	// handler as it is, and a repetition of it is a second request.
	Required bool
	// MaxKey is the longest key in bytes; 0: 255, as Stripe has it. Longer
	// ones are answered with 400.
	MaxKey int
	// Scope says whose key it is: the same key of two scopes is two keys. nil:
	// by the hash of Authorization. A server whose clients are known by
	// something else (a cookie, a certificate, a tenant's host) must say so
	// here, or one client could get another's answer for a key it guesses. So
	// must one whose clients send another Authorization with a repetition (a
	// signature of each request, a token that was refreshed): by its hash that
	// is a new key, and the request is carried out twice.
	Scope func(*http.Request) string
	// Fields of the request's header that must be the same in a repetition,
	// beside method, path, query and body; nil: none.
	Fields []string
	// MaxBody is the largest request body in bytes, which is read whole before
	// the handler runs; 0: 1 MiB. A larger one is answered with 413, since two
	// that cannot be compared could not be told apart.
	MaxBody int64
	// MaxResponse is the largest response body in bytes that is kept; 0: 1
	// MiB. A larger one is streamed to the client, and a repetition is told
	// with 410 that the request was carried out, and with which status.
	MaxResponse int64
	// Lease is how long the key of a process that died stays taken; 0: 10 s.
	// While the handler runs, it is renewed.
	Lease time.Duration
	// TTL is how long an answer is given again; 0: 24 h.
	TTL time.Duration
	// Release says for which status the answer is not stored and the key free
	// for a repetition, which may do better; nil: 429, 502, 503, 504. A 500 is
	// stored: nobody knows what it has done. After a 502 or 504, which tell of a
	// server behind the handler, the next run is marked with Run.Again: that
	// server may have done it. After others it is not: where such a status may
	// come after an effect, or while the handler goes on, store it.
	// [http.TimeoutHandler] gives one while its handler goes on: put it around
	// this Handler, not inside.
	Release func(status int) bool
	// KeepPanics stores a 500 when the handler panics; else a repetition is run
	// at once, marked with Run.Again, as after the death of the process. The
	// panic goes on in both cases.
	KeepPanics bool
	// Observe is told what was decided; nil: nobody is. It is called on the
	// request's goroutine, also by several at once.
	Observe func(Event)
}

type handler struct {
	Options
	next http.Handler
}

// Handler lets next carry out a request with an idempotency key once, and
// gives the stored answer to its repetitions (draft-ietf-httpapi-idempotency-
// key-header). Its own answers are problems of RFC 9457: 400 for a key that is
// missing or malformed, 409 with Retry-After while the first run goes on, 413,
// 422 for a key that belongs to another request, 503 while the store fails,
// 410 as at Options.MaxResponse.
//
// next runs to its end also if the client goes away: its context keeps the
// values of the request's and not its cancellation or deadline; it ends only
// when the lease is lost. It finds its [Run] in the context. The answer goes to
// the client when it has been stored. A handler that flushes streams from then
// on, and its answer is stored at its end: a chunked response is not complete
// for the client before that. Informational responses go through unrecorded.
// It cannot be hijacked.
//
// Between the handler's effect and the storing of its answer the process can
// die, or the handler panic. Then the next run is marked with Run.Again, and
// only the handler can know what has happened: by the Run.ID in its own books,
// or by a store that commits both at once (package sqlitestore).
func Handler(next http.Handler, o Options) http.Handler {
	if o.Store == nil {
		o.Store = new(Memory)
	}
	if o.Header == "" {
		o.Header = Header
	}
	if o.Methods == nil {
		o.Methods = []string{http.MethodPost, http.MethodPatch}
	}
	if o.MaxKey <= 0 {
		o.MaxKey = 255
	}
	if o.Scope == nil {
		o.Scope = byAuthorization
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = 1 << 20
	}
	if o.Lease <= 0 {
		o.Lease = 10 * time.Second
	}
	if o.TTL <= 0 {
		o.TTL = 24 * time.Hour
	}
	if o.Release == nil {
		o.Release = mayPass
	}
	return &handler{Options: o, next: next}
}

// mayPass says which statuses are of a moment, and not the request's outcome.
func mayPass(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// ofAnother says which statuses tell of another server, which was asked and may
// have done what it was asked for (RFC 9110, sections 15.6.3 and 15.6.5).
func ofAnother(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusGatewayTimeout
}

func byAuthorization(r *http.Request) string {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, value := range values {
		part(sum, value)
	}
	return string(sum.Sum(nil))
}

// again is the Retry-After of 409 and 503, in seconds: how long a handler
// still needs is not known, and a second is the least that can be said.
const again = 1

// ServeHTTP finds out whose turn it is: the handler's, or a stored answer's.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(h.Methods, r.Method) {
		h.next.ServeHTTP(w, r)
		return
	}
	key, err := read(r.Header, h.Header, h.MaxKey)
	switch {
	case errors.Is(err, errNoKey) && !h.Required:
		h.next.ServeHTTP(w, r)
		return
	case errors.Is(err, errNoKey):
		h.refuse(w, r, ID{}, Rejected, err, problem{Status: http.StatusBadRequest, Title: h.Header + " is missing",
			Detail: "This operation is carried out once for each key: send a new " + h.Header + " with each new request."})
		return
	case err != nil:
		h.refuse(w, r, ID{}, Rejected, err, problem{Status: http.StatusBadRequest, Title: h.Header + " is malformed", Detail: err.Error()})
		return
	}
	body, p, err := h.body(r)
	if p.Status != 0 {
		h.refuse(w, r, ID{}, Rejected, err, p)
		return
	}
	id := identify(h.Scope(r), key)
	claim, err := h.Store.Claim(r.Context(), id, fingerprint(r, h.Fields, body), h.Lease, h.TTL)
	switch {
	case err != nil:
		h.refuse(w, r, id, Failed, err, problem{Status: http.StatusServiceUnavailable, Type: "about:blank", Title: "Service Unavailable",
			Detail: "Nothing was done. Send the request again, with the same " + h.Header + "."})
	case claim.State == Claimed:
		h.run(w, r, body, &Run{Key: key, ID: id, Token: claim.Token, Again: claim.Again})
	case claim.State == Running:
		h.refuse(w, r, id, Conflict, nil, problem{Status: http.StatusConflict, Title: "A request with this " + h.Header + " is being carried out",
			Detail: "Send it again later to get its result."})
	case claim.State == Mismatch:
		h.refuse(w, r, id, Reused, nil, problem{Status: http.StatusUnprocessableEntity, Title: h.Header + " was used for another request",
			Detail: "Method, path, query, body or a chosen field differs. Send another request with a new key."})
	case claim.State == Done && claim.Answer != nil:
		h.replay(w, r, id, claim.Answer)
	default:
		err := fmt.Errorf("idempotency: the store gave the claim state %v without what belongs to it", claim.State)
		h.refuse(w, r, id, Failed, err, problem{Status: http.StatusInternalServerError, Type: "about:blank", Title: "Internal Server Error"})
	}
}

// body reads the request body, or says what to answer if it cannot be used.
func (h *handler) body(r *http.Request) ([]byte, problem, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, problem{}, nil
	}
	tooLarge := problem{Status: http.StatusRequestEntityTooLarge, Type: "about:blank", Title: "Content Too Large",
		Detail: fmt.Sprintf("With %s the body has at most %d bytes.", h.Header, h.MaxBody)}
	err := fmt.Errorf("idempotency: the request body is larger than the %d bytes of Options.MaxBody", h.MaxBody)
	if r.ContentLength > h.MaxBody {
		return nil, tooLarge, err
	}
	var buffer bytes.Buffer
	n, broken := buffer.ReadFrom(io.LimitReader(r.Body, h.MaxBody+1))
	var outer *http.MaxBytesError
	switch {
	case errors.As(broken, &outer): // of a http.MaxBytesHandler around this one
		return nil, problem{Status: http.StatusRequestEntityTooLarge, Type: "about:blank", Title: "Content Too Large",
			Detail: fmt.Sprintf("The body has at most %d bytes.", outer.Limit)}, broken
	case broken != nil:
		return nil, problem{Status: http.StatusBadRequest, Type: "about:blank", Title: "The body could not be read"}, broken
	case n > h.MaxBody:
		return nil, tooLarge, err
	}
	return buffer.Bytes(), problem{}, nil
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, id ID, kind Kind, err error, p problem) {
	h.tell(Event{Kind: kind, Context: r.Context(), ID: id, Status: p.Status, Err: err})
	retry := 0
	if p.Status == http.StatusConflict || p.Status == http.StatusServiceUnavailable {
		retry = again
	}
	p.send(w, retry)
}

// replay gives a stored answer.
func (h *handler) replay(w http.ResponseWriter, r *http.Request, id ID, a *Answer) {
	header := w.Header()
	header.Set(ReplayedHeader, "true")
	status := a.Status
	if a.TooLarge {
		status = http.StatusGone
	}
	h.tell(Event{Kind: Replay, Context: r.Context(), ID: id, Status: status})
	if a.TooLarge {
		problem{Status: status, Type: "about:blank", Title: "The request was carried out; its answer is not kept", Original: a.Status,
			Detail: fmt.Sprintf("It was answered with status %d and a body of more than %d bytes.", a.Status, h.MaxResponse)}.send(w, 0)
		return
	}
	for name, values := range a.Header {
		header[name] = values
	}
	deliver(w, a.Status, a.Body, a.Trailer)
}

package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/resagent/resagent/idempotency"
)

// result is what an attempt came to.
type result struct {
	resp    *http.Response
	err     error
	attempt *attempt

	status    int     // 0: no response
	outcome   outcome // for the circuit
	bad       bool    // no success by its status, whatever the circuit makes of it
	refused   bool    // our own no, or the end of the call's time: nothing was sent
	final     bool    // no other attempt could end differently
	own       bool    // the failure may well be this process's own trouble
	neverSent bool    // it provably did not reach the upstream
	kept      bool    // resp was drained, and can be given whole
}

// classify judges what the base gave; struck is our own timer's error.
func (c *call) classify(resp *http.Response, err, struck error) result {
	r := result{resp: resp, err: err, outcome: success}
	if resp != nil {
		r.status = resp.StatusCode
		switch {
		case r.status < 400:
		case idempotency.Replayed(resp):
			r.final = true // asking again would bring it again
		default:
			p := c.rules.Retry
			r.bad = neverGood(r.status) || p != nil && slices.Contains(p.Statuses, r.status)
			if b := c.rules.CircuitBreaker; b != nil && slices.Contains(b.Statuses, r.status) {
				r.outcome = failure
			}
		}
		return r
	}
	var no *RejectedError
	switch {
	case c.gaveUp(): // the caller's own end
		r.outcome, r.final = ignored, true
	case errors.As(err, &no): // of a Transport that is our base
		r.outcome, r.final = ignored, true
	case struck != nil && c.upload != nil && c.upload.awaited():
		// The upstream had no whole request to answer.
		r.outcome, r.final = ignored, errors.Is(struck, ErrTotalTimeout)
	case struck != nil && errors.Is(struck, ErrTotalTimeout):
		// Its time was cut by what the call had used up before, and says
		// nothing, unless it had all that a call may have.
		r.final = true
		r.outcome = ignored
		if p := c.rules.Timeout; p.Attempt == 0 || p.Total <= p.Attempt {
			r.outcome = failure
		}
	case c.mistaken(err):
		r.outcome, r.final = ignored, true
	default:
		r.outcome = failure
		r.neverSent = neverSent(err)
		r.final = badCertificate(err)
		r.own = r.final || ownTrouble(err)
	}
	return r
}

// neverGood says whether a status is never a success, whatever the policy calls
// it. 501 and 505 are answers.
func neverGood(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// good says whether an attempt succeeded, as retry budget and hedge see it: a
// 500 that is no failure to the circuit is no success either, nor is what is
// retried.
func (r *result) good() bool { return r.outcome == success && !r.bad }

// neverSent says whether the error proves that no byte of the request left:
// no connection, or none that had finished its TLS handshake.
func neverSent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") {
		return true
	}
	var dns *net.DNSError
	var record tls.RecordHeaderError
	if errors.As(err, &dns) || errors.As(err, &record) || badCertificate(err) {
		return true
	}
	// net/http has no type for it.
	return strings.Contains(err.Error(), "TLS handshake timeout")
}

// ownTrouble says whether an error is more likely this process's than the
// upstream's: its resolver, or its own limit of open files.
func ownTrouble(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// badCertificate says whether either side did not like the other's
// certificate, which another attempt does not change.
func badCertificate(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var roots x509.SystemRootsError
	if errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &invalid) || errors.As(err, &roots) {
		return true
	}
	var alert tls.AlertError // RFC 8446, section 6.2
	if !errors.As(err, &alert) {
		return false
	}
	switch uint8(alert) {
	case 42, 43, 44, 45, 46, 48, 116: // bad, unsupported, revoked, expired, unknown certificate; unknown CA; certificate required
		return true
	}
	return false
}

// mistaken says whether the fault is the caller's: its own body failed, or
// net/http found the request itself wrong. It has no types for these.
func (c *call) mistaken(err error) bool {
	if err == nil {
		return false
	}
	if c.upload != nil && c.upload.broken() != nil {
		return true
	}
	s := err.Error()
	return slices.ContainsFunc(mistakes, func(part string) bool { return strings.Contains(s, part) })
}

// mistakes are in net/http's errors about requests.
var mistakes = []string{
	"unsupported protocol scheme", "no Host in request URL", "net/http: invalid", "http: invalid", "http: Request.",
	"http: ContentLength=", // "with Body length": less or more than was said
	"invalid Trailer key",
	"http2: invalid", "http2: Request.", // a field, a path, a host
	"request header list larger than peer's advertised limit",
	"request body larger than specified content length",
}

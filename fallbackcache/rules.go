package fallbackcache

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// verdict is what follows from a response: it is kept, or it is not kept and
// what it supersedes is removed, or nothing happens.
type verdict struct {
	keep, remove bool
	each         bool          // it must be asked about each time
	window       time.Duration // of stale-while-revalidate
	fate         Fate          // where neither
	vary         []string
	without      []string // fields not to be replayed
	fresh        freshness
}

// freshness is all that decides, later, how old an answer may be.
type freshness struct {
	arrived    time.Time
	age        time.Duration // on arrival (RFC 9111, section 4.2.3)
	lifetime   time.Duration // section 4.2.1; 0 where none is stated
	neverStale bool
}

// judge decides about the final response to a plain GET, by the class of its
// status and by its header, whose names must be canonical.
func judge(class class, h http.Header, arrived time.Time) verdict {
	if class == nothing {
		return verdict{fate: Uncacheable}
	}
	cc := readResponse(h)
	if cc.mustUnderstand && class != unknown {
		// The no-store beside it is for those who do not know the status (RFC
		// 9111, section 5.2.2.3).
		cc.noStore = false
	}
	// A newer answer that must not be stored or not be reused ends the older
	// one too: it is no longer the last good answer. So does the news that
	// this user may not see it any more.
	// One that must be asked about each time is kept if it can be.
	if class == refused || cc.noStore || cc.noCache && len(h["Etag"]) == 0 && len(h["Last-Modified"]) == 0 {
		return verdict{remove: true}
	}
	lines := h["Vary"]
	if coding := first(h, "Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		// Compressed for one who asked for it, not for one who did not, also
		// where the origin forgets to say so.
		lines = append(slices.Clip(lines), "Accept-Encoding")
	}
	vary, ok := varyNames(lines)
	if !ok {
		return verdict{remove: true}
	}
	fresh, explicit := lifetime(cc, h, arrived)
	if cc.noCache { // RFC 9111, section 5.2.2.4
		fresh, cc.neverStale = 0, true
	}
	if class != always && !explicit && !cc.stated || class == unknown && cc.mustUnderstand || endless(h) {
		return verdict{fate: Uncacheable}
	}
	v := verdict{
		keep:    true,
		each:    cc.noCache,
		vary:    vary,
		without: cc.without,
		fresh: freshness{
			arrived:  arrived,
			age:      initialAge(h, arrived),
			lifetime: fresh,
			// stale-if-error=0 (and nonsense) is the origin's opt-out.
			neverStale: cc.neverStale || cc.staleIfError.set && cc.staleIfError.d == 0,
		},
	}
	if !cc.neverStale {
		v.window = cc.staleWhileRevalidate.d
	}
	return v
}

// forSome tells whether the answer may be given again without asking, for a
// while.
func (v verdict) forSome() bool { return v.fresh.age < v.fresh.lifetime || v.window > 0 }

type class uint8

const (
	nothing    class = iota // neither good nor a word about who may see it
	always                  // stored without being asked to
	whenStated              // stored if the response states a lifetime, public or private
	unknown                 // the same, of a success that we do not know
	refused                 // this user may not see it
)

// classOf follows RFC 9110, section 15.1 ("heuristically cacheable"), without
// what is no good answer: 206 is a part, and 5xx are the failures we are for.
func classOf(status int) class {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414:
		return always
	case 302, 303, 307, 451:
		return whenStated
	case 401, 403:
		return refused
	case 206:
		return nothing
	}
	if status/100 == 2 {
		return unknown
	}
	return nothing
}

// endless tells of bodies that are streams of events rather than an answer.
func endless(h http.Header) bool {
	media, _, _ := strings.Cut(first(h, "Content-Type"), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "text/event-stream" || media == "multipart/x-mixed-replace" || strings.HasPrefix(media, "application/grpc")
}

// lifetime is how long a response is fresh (RFC 9111, section 4.2.1), and
// whether that was stated. s-maxage is for shared caches, and this is a
// private one.
func lifetime(cc responseControl, h http.Header, arrived time.Time) (d time.Duration, explicit bool) {
	switch {
	case cc.maxAge.set:
		return cc.maxAge.d, true
	case len(h["Expires"]) == 0:
		return 0, false
	}
	expires, ok := date(h, "Expires")
	if !ok {
		return 0, true // "0" and other invalid dates mean: already expired
	}
	made, ok := date(h, "Date")
	if !ok {
		made = arrived
	}
	return min(max(0, expires.Sub(made)), farAway), true
}

// farAway bounds every duration that comes from outside, so that sums of them
// stay within time.Duration.
const farAway = maxDelta * time.Second

// initialAge is the corrected initial age of RFC 9111, section 4.2.3, without
// the response delay, which is not known here.
func initialAge(h http.Header, arrived time.Time) time.Duration {
	var apparent time.Duration
	if made, ok := date(h, "Date"); ok {
		apparent = max(0, arrived.Sub(made))
	}
	// Of several ages the first counts, and an invalid one does not (section
	// 5.1).
	value, _, _ := strings.Cut(first(h, "Age"), ",")
	stated, _ := parseDelta(strings.Trim(value, " \t"))
	return min(max(apparent, stated), farAway)
}

// ageAt is the current age. Both clocks are asked: the monotonic one stands
// still while the machine sleeps, the other may be set back. The older age is
// taken.
func (f freshness) ageAt(now time.Time) time.Duration {
	resident := max(0, now.Sub(f.arrived), now.Round(0).Sub(f.arrived.Round(0)))
	return f.age + min(resident, farAway)
}

// permits tells whether an answer of this age may be given to a request with
// these directives, if the operator lets it be stale by at most maxStale.
//
// The operator's window stands for what the origin did not say, and extends a
// stale-if-error that is shorter; the origin's prohibitions cannot be
// extended. A request can only narrow the window.
func (f freshness) permits(age, maxStale time.Duration, cc requestControl) bool {
	if f.neverStale {
		maxStale = 0
	}
	return f.within(age, maxStale, cc)
}

// within is permits for a window that the origin allows.
func (f freshness) within(age, window time.Duration, cc requestControl) bool {
	if cc.noStore || cc.noCache {
		return false
	}
	lifetime := f.lifetime
	allowed := max(0, window)
	switch {
	case cc.staleIfError.set:
		// "regardless of other freshness information" (RFC 5861, section 4).
		wanted := max(cc.staleIfError.d, cc.maxStale.d)
		if !cc.anyStale {
			allowed = min(allowed, wanted)
		}
	case cc.maxStale.set:
		allowed = min(allowed, cc.maxStale.d)
	case cc.anyStale:
	case cc.maxAge.set, cc.minFresh.set:
		allowed = 0 // RFC 9111, section 5.2.1.1: not willing to take a stale one
	}
	if !cc.staleIfError.set {
		if cc.maxAge.set {
			lifetime = min(lifetime, cc.maxAge.d)
		}
		if cc.minFresh.set && (cc.minFresh.bad || lifetime-age < cc.minFresh.d) {
			return false
		}
	}
	staleness := age - lifetime
	return staleness < 0 || allowed > 0 && staleness <= allowed
}

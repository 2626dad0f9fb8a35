package fallbackcache

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

const none = "none"

// Each case stores the body "good" from one exchange, then asks again after a
// while. Names begin with the section that decides.
func TestRules(t *testing.T) {
	type fields = []string
	const hour = time.Hour
	dated := start.Format(http.TimeFormat)
	at := func(d time.Duration) string { return start.Add(d).Format(http.TimeFormat) }

	for _, c := range []struct {
		name     string
		asked    fields // the first request
		status   int    // 0: 200
		said     fields // its response
		after    time.Duration
		again    fields // the second request
		maxStale time.Duration
		want     string // "" is "good"
	}{
		// Storing.
		{name: "9111 3 fresh", said: fields{"Cache-Control: max-age=60"}, after: 59 * time.Second},
		{name: "9111 3 nothing stated, as a fallback", maxStale: hour},
		{name: "9111 3 nothing stated is stale at once", want: none},
		{name: "9111 5.2.2.5 no-store", said: fields{"Cache-Control: max-age=60, no-store"}, maxStale: hour, want: none},
		{name: "9111 5.2.2.5 no-store in capitals", said: fields{"Cache-Control: No-Store"}, maxStale: hour, want: none},
		{name: "9111 5.2.2.5 no-store on a second line", said: fields{"Cache-Control: max-age=60", "Cache-Control: no-store"}, maxStale: hour, want: none},
		{name: "9111 5.2.2.5 no-store with an argument", said: fields{"Cache-Control: no-store=x"}, maxStale: hour, want: none},
		{name: "9111 5.2.2.5 no-store in another's quotes is text", said: fields{`Cache-Control: ext="a, no-store", max-age=60`}},
		{name: "9111 5.2.2.5 no-store after a quote that never ends", said: fields{`Cache-Control: ext="a, no-store`}, maxStale: hour, want: none},
		{name: "9111 5.2.1.5 no-store asked for at first", asked: fields{"Cache-Control: no-store"}, said: fields{"Cache-Control: max-age=60"}, want: none},
		{name: "9111 5.2.1.5 no-store asked for later", said: fields{"Cache-Control: max-age=60"}, again: fields{"Cache-Control: no-store"}, want: none},
		{name: "9111 5.2.2.7 private is for us", said: fields{"Cache-Control: private"}, maxStale: hour},
		{name: "9111 5.2.2.3 must-understand beside no-store, understood", said: fields{"Cache-Control: no-store, must-understand, max-age=60"}},
		{name: "9111 5.2.2.3 must-understand beside no-store, a redirect", status: 302, said: fields{"Cache-Control: no-store, must-understand, max-age=60"}},
		{name: "9111 5.2.2.3 must-understand beside no-store, not understood", status: 299, said: fields{"Cache-Control: no-store, must-understand, max-age=60"}, want: none},
		{name: "9111 5.2.2.3 must-understand beside no-cache", said: fields{"Cache-Control: no-cache, must-understand, max-age=60"}, maxStale: hour, want: none},
		{name: "9111 5.2.2.3 must-understand, understood", said: fields{"Cache-Control: must-understand, max-age=60"}},
		{name: "9111 5.2.2.3 must-understand, not understood", status: 299, said: fields{"Cache-Control: must-understand, max-age=60"}, want: none},
		{name: "9111 3 4 unknown 2xx that states a lifetime", status: 299, said: fields{"Cache-Control: max-age=60"}},
		{name: "9111 3 4 unknown 2xx that states none", status: 299, maxStale: hour, want: none},
		{name: "9111 3 4 redirect that states none", status: 302, said: fields{"Location: /x"}, maxStale: hour, want: none},
		{name: "9111 3 4 redirect that states a lifetime", status: 302, said: fields{"Location: /x", "Cache-Control: max-age=60"}},
		{name: "9111 3 4 redirect that says public", status: 307, said: fields{"Location: /x", "Cache-Control: public"}, maxStale: hour},
		{name: "9110 15.1 203", status: 203, maxStale: hour},
		{name: "9110 15.1 301", status: 301, maxStale: hour},
		{name: "9110 15.1 404", status: 404, maxStale: hour},
		{name: "9110 15.1 410", status: 410, maxStale: hour},
		{name: "9111 3.3 a part is not the whole", status: 206, said: fields{"Cache-Control: max-age=60", "Content-Range: bytes 0-3/9"}, maxStale: hour, want: none},
		{name: "9110 14.4 Content-Range means nothing beside 200", said: fields{"Cache-Control: max-age=60", "Content-Range: bytes 0-3/9"}},
		{name: "9111 3.3 range asked for at first", asked: fields{"Range: bytes=0-9"}, said: fields{"Cache-Control: max-age=60"}, want: none},
		{name: "9111 3.3 range asked for later", said: fields{"Cache-Control: max-age=60"}, again: fields{"Range: bytes=0-1"}, want: none},
		{name: "5861 4 a failure that says it lasts", status: 503, said: fields{"Cache-Control: max-age=60"}, maxStale: hour, want: none},
		{name: "5861 4 500", status: 500, said: fields{"Cache-Control: public, max-age=60"}, maxStale: hour, want: none},
		{name: "9110 15.6.2 501", status: 501, said: fields{"Cache-Control: max-age=60"}, maxStale: hour, want: none},
		{name: "6585 4 throttled", status: 429, said: fields{"Cache-Control: max-age=60"}, maxStale: hour, want: none},
		{name: "9110 15.5.1 400", status: 400, said: fields{"Cache-Control: max-age=60"}, maxStale: hour, want: none},
		{name: "an event stream", said: fields{"Content-Type: text/event-stream; charset=utf-8", "Cache-Control: max-age=60"}, want: none},

		// Lifetime.
		{name: "9111 4.2.1 max-age ends", said: fields{"Cache-Control: max-age=60"}, after: 60 * time.Second, want: none},
		{name: "9111 4.2.1 max-age before Expires", said: fields{"Cache-Control: max-age=0", "Date: " + dated, "Expires: " + at(hour)}, want: none},
		{name: "9111 4.2.1 Expires", said: fields{"Date: " + dated, "Expires: " + at(hour)}, after: 59 * time.Minute},
		{name: "9111 4.2.1 Expires counts from Date", said: fields{"Date: " + at(-30*time.Minute), "Expires: " + at(0)}, want: none},
		{name: "9111 4.2.1 Expires without Date", said: fields{"Expires: " + at(time.Minute)}, after: 59 * time.Second},
		{name: "9111 5.3 Expires 0", said: fields{"Expires: 0"}, want: none},
		{name: "9111 5.3 Expires in RFC 850 form", said: fields{"Expires: " + start.Add(hour).Format("Monday, 02-Jan-06 15:04:05 GMT")}},
		{name: "9111 5.3 Expires in asctime form", said: fields{"Expires: " + start.Add(hour).Format(time.ANSIC)}},
		{name: "9111 4.2 Expires in small letters", said: fields{"Expires: " + strings.ToLower(at(hour))}},
		{name: "9111 4.2 Expires in capitals", said: fields{"Expires: " + strings.ToUpper(at(hour))}},
		{name: "9111 4.2 Expires in asctime form and capitals", said: fields{"Expires: " + strings.ToUpper(start.Add(hour).Format(time.ANSIC))}},
		{name: "9111 4.2 Expires with a letter beyond ASCII", said: fields{"Expires: " + strings.ReplaceAll(at(hour), "Nov", "ſov")}, want: none},
		{name: "9111 5.3 Expires in another zone", said: fields{"Expires: " + start.Add(hour).Format("Monday, 02-Jan-06 15:04:05 CET")}, want: none},
		{name: "9111 5.3 Expires with too few digits", said: fields{"Expires: " + start.Add(-3*hour).Format("Mon, 02 Jan 2007 3:04:05 GMT")}, want: none},
		{name: "9111 5.3 Expires with a fraction", said: fields{"Expires: " + start.Add(hour).Format("Mon, 02 Jan 2006 15:04:05.000 GMT")}, want: none},
		{name: "9111 5.3 Expires on another weekday", said: fields{"Expires: Sun, 23 Nov 2026 13:00:00 GMT"}, want: none},
		{name: "9111 4.2.1 Expires twice", said: fields{"Expires: " + at(hour), "Expires: " + at(hour)}, want: none},
		{name: "9111 4.2.1 max-age twice alike", said: fields{"Cache-Control: max-age=60, max-age=60"}},
		{name: "9111 4.2.1 max-age twice unlike", said: fields{"Cache-Control: max-age=60, max-age=3600"}, want: none},
		{name: "9111 4.2.1 max-age without value", said: fields{"Cache-Control: max-age"}, want: none},
		{name: "9111 4.2.1 max-age negative", said: fields{"Cache-Control: max-age=-1"}, want: none},
		{name: "9111 4.2.1 max-age with a fraction", said: fields{"Cache-Control: max-age=60.5"}, want: none},
		{name: "9111 4.2.1 max-age invalid, with Expires", said: fields{"Cache-Control: max-age=x", "Expires: " + at(hour)}, want: none},
		{name: "9111 4.2.1 an invalid one is a fallback still", said: fields{"Cache-Control: max-age=x"}, maxStale: hour},
		{name: "9111 5.2 max-age quoted", said: fields{`Cache-Control: max-age="60"`}},
		{name: "9111 5.2 max-age with space after the name", said: fields{"Cache-Control: max-age =60"}, want: none},
		{name: "9111 5.2 max-age with space before the value", said: fields{"Cache-Control: max-age= 60"}, want: none},
		{name: "9111 5.2 no-store with space is seen all the same", said: fields{"Cache-Control: no-store = x"}, maxStale: hour, want: none},
		{name: "9111 5.2 max-age between other things", said: fields{`Cache-Control: , a=b,,c="d\"e, f" , MAX-AGE=60,`}},
		{name: "9111 1.2.2 max-age beyond all numbers", said: fields{"Cache-Control: max-age=99999999999999999999999"}, after: 24 * 365 * hour},
		{name: "9111 5.2.2.10 s-maxage is not for a private cache", said: fields{"Cache-Control: s-maxage=60"}, want: none},
		{name: "9111 5.2.2.10 nor is it beside max-age", said: fields{"Cache-Control: max-age=60, s-maxage=5"}, after: 6 * time.Second},
		{name: "9111 5.2.2.10 also if it is longer", said: fields{"Cache-Control: max-age=5, s-maxage=60"}, after: 6 * time.Second, want: none},
		{name: "9111 5.2.2.10 nor beside Expires", said: fields{"Cache-Control: s-maxage=60", "Expires: " + at(-hour)}, want: none},

		// Age.
		{name: "9111 4.2.3 Age counts", said: fields{"Cache-Control: max-age=60", "Age: 50"}, after: 11 * time.Second, want: none},
		{name: "9111 5.1 Age, the first of a list", said: fields{"Cache-Control: max-age=60", "Age: 50, 5"}, after: 11 * time.Second, want: none},
		{name: "9111 5.1 Age that is none", said: fields{"Cache-Control: max-age=60", "Age: -50"}, after: 11 * time.Second},
		{name: "9111 5.1 Age beyond all numbers", said: fields{"Cache-Control: max-age=60", "Age: 99999999999999999999"}, maxStale: hour, want: none},
		{name: "9111 4.2.3 an old Date counts", said: fields{"Cache-Control: max-age=60", "Date: " + at(-50*time.Second)}, after: 11 * time.Second, want: none},
		{name: "9111 4.2.3 a Date ahead does not", said: fields{"Cache-Control: max-age=60", "Date: " + at(hour)}, after: 61 * time.Second, want: none},
		{name: "9111 4.2.3 a Date of the year 1", said: fields{"Cache-Control: max-age=60", "Date: Mon, 01 Jan 0001 00:00:00 GMT"}, maxStale: hour, want: none},
		{name: "our clock is set back", said: fields{"Cache-Control: max-age=60"}, after: -hour},

		// Staleness, by the origin.
		{name: "5861 4 within the window", said: fields{"Cache-Control: max-age=60"}, after: 60*time.Second + hour, maxStale: hour},
		{name: "5861 4 beyond it", said: fields{"Cache-Control: max-age=60"}, after: 61*time.Second + hour, maxStale: hour, want: none},
		{name: "5861 4 the window begins when freshness ends, not on arrival", said: fields{"Cache-Control: max-age=7200"}, after: 2*hour + 30*time.Minute, maxStale: hour},
		{name: "5861 4 the operator extends it", said: fields{"Cache-Control: max-age=60, stale-if-error=10"}, after: 30 * time.Minute, maxStale: hour},
		{name: "5861 4 the operator bounds it", said: fields{"Cache-Control: max-age=60, stale-if-error=86400"}, after: 2 * hour, maxStale: hour, want: none},
		{name: "5861 4 as the origin says, within", said: fields{"Cache-Control: max-age=60, stale-if-error=10"}, after: 70 * time.Second},
		{name: "5861 4 as the origin says, beyond", said: fields{"Cache-Control: max-age=60, stale-if-error=10"}, after: 71 * time.Second, want: none},
		{name: "5861 4 as the origin says, twice unlike", said: fields{"Cache-Control: max-age=60, stale-if-error=10, stale-if-error=20"}, after: 61 * time.Second, want: none},
		{name: "5861 4 as the origin says, but must-revalidate", said: fields{"Cache-Control: max-age=60, stale-if-error=10, must-revalidate"}, after: 61 * time.Second, want: none},
		{name: "5861 4 as the origin says, and the request narrows", said: fields{"Cache-Control: max-age=60, stale-if-error=10"}, after: 65 * time.Second, again: fields{"Cache-Control: stale-if-error=4"}, want: none},
		{name: "5861 4 as the request says, within", said: fields{"Cache-Control: max-age=60"}, after: 70 * time.Second, again: fields{"Cache-Control: stale-if-error=10"}},
		{name: "5861 4 as the request says, beyond", said: fields{"Cache-Control: max-age=60"}, after: 71 * time.Second, again: fields{"Cache-Control: stale-if-error=10"}, want: none},
		{name: "5861 4 as the request says, but zero", said: fields{"Cache-Control: max-age=60, stale-if-error=10"}, after: 65 * time.Second, again: fields{"Cache-Control: stale-if-error=0"}, want: none},
		{name: "9111 4.2.4 as the request says by max-stale", said: fields{"Cache-Control: max-age=60"}, after: 70 * time.Second, again: fields{"Cache-Control: max-stale=10"}},
		{name: "9111 4.2.4 as the request says by any max-stale", said: fields{"Cache-Control: max-age=60"}, after: 2 * hour, again: fields{"Cache-Control: max-stale"}},
		{name: "9111 4.2.4 as the request says, but must-revalidate", said: fields{"Cache-Control: max-age=60, must-revalidate"}, after: 70 * time.Second, again: fields{"Cache-Control: max-stale"}, want: none},
		{name: "9111 4.2.4 as the request says, but stale-if-error=0", said: fields{"Cache-Control: max-age=60, stale-if-error=0"}, after: 70 * time.Second, again: fields{"Cache-Control: stale-if-error=60"}, want: none},
		{name: "5861 4 zero is an opt-out", said: fields{"Cache-Control: max-age=60, stale-if-error=0"}, after: 61 * time.Second, maxStale: hour, want: none},
		{name: "5861 4 the opt-out is not for fresh ones", said: fields{"Cache-Control: max-age=60, stale-if-error=0"}, after: 59 * time.Second, maxStale: hour},
		{name: "5861 4 nonsense is an opt-out", said: fields{"Cache-Control: max-age=60, stale-if-error=soon"}, after: 61 * time.Second, maxStale: hour, want: none},
		{name: "9111 5.2.2.2 must-revalidate, stale", said: fields{"Cache-Control: max-age=60, must-revalidate"}, after: 61 * time.Second, maxStale: hour, want: none},
		{name: "9111 5.2.2.2 must-revalidate, fresh", said: fields{"Cache-Control: max-age=60, must-revalidate"}, after: 59 * time.Second},
		{name: "9111 5.2.2.2 must-revalidate beats stale-if-error", said: fields{"Cache-Control: max-age=60, must-revalidate, stale-if-error=600"}, after: 61 * time.Second, maxStale: hour, want: none},
		{name: "9111 5.2.2.8 proxy-revalidate", said: fields{"Cache-Control: max-age=60, proxy-revalidate"}, after: 61 * time.Second, maxStale: hour, want: none},
		{name: "9111 5.2.2.10 s-maxage is never stale", said: fields{"Cache-Control: s-maxage=60"}, after: 61 * time.Second, maxStale: hour, want: none},
		{name: "9111 5.2.2.4 no-cache", said: fields{"Cache-Control: no-cache, max-age=60"}, maxStale: hour, want: none},
		{name: "9111 5.2.2.4 no-cache with a validator", said: fields{"Cache-Control: no-cache, max-age=60, stale-if-error=60, stale-while-revalidate=60", `ETag: "v"`}, maxStale: hour, want: none},
		{name: "9111 5.2.2.4 no-cache with a validator, and a client that takes all", said: fields{"Cache-Control: no-cache, max-age=60", `ETag: "v"`}, again: fields{"Cache-Control: max-stale"}, want: none},
		{name: "9111 5.2.2.4 no-cache for some fields", said: fields{`Cache-Control: no-cache="X-Fresh", max-age=60`}},
		{name: "9111 5.2.2.4 no-cache for no field is for all", said: fields{`Cache-Control: no-cache="", max-age=60`}, maxStale: hour, want: none},
		{name: "9111 5.2.2.4 no-cache with an open quote", said: fields{`Cache-Control: max-age=60, no-cache="X-Fresh`}, maxStale: hour, want: none},
		{name: "9111 5.2.2.4 no-cache with a bare name", said: fields{`Cache-Control: no-cache=X-Fresh, max-age=60`}, maxStale: hour, want: none},
		{name: "9111 5.4 Pragma in a response that has no more", said: fields{"Pragma: no-cache"}, maxStale: hour, want: none},
		{name: "9111 5.4 Pragma beside Cache-Control", said: fields{"Pragma: no-cache", "Cache-Control: max-age=60"}},

		// Staleness, by the request.
		{name: "9111 5.2.1.4 no-cache asked for", said: fields{"Cache-Control: max-age=60"}, again: fields{"Cache-Control: no-cache"}, want: none},
		{name: "9111 5.4 Pragma asked for", said: fields{"Cache-Control: max-age=60"}, again: fields{"Pragma: no-cache"}, want: none},
		{name: "9111 5.4 Pragma beside Cache-Control asked for", said: fields{"Cache-Control: max-age=60"}, again: fields{"Pragma: no-cache", "Cache-Control: max-age=60"}},
		{name: "9111 5.2.1.1 max-age, young enough", said: fields{"Cache-Control: max-age=60"}, after: 9 * time.Second, again: fields{"Cache-Control: max-age=10"}},
		{name: "9111 5.2.1.1 max-age, too old", said: fields{"Cache-Control: max-age=60"}, after: 11 * time.Second, again: fields{"Cache-Control: max-age=10"}, maxStale: hour, want: none},
		{name: "9111 5.2.1.1 max-age takes no stale one", said: fields{"Cache-Control: max-age=60"}, after: 61 * time.Second, again: fields{"Cache-Control: max-age=600"}, maxStale: hour, want: none},
		{name: "9111 5.2.1.2 max-stale narrows", said: fields{"Cache-Control: max-age=60"}, after: 71 * time.Second, again: fields{"Cache-Control: max-stale=10"}, maxStale: hour, want: none},
		{name: "9111 5.2.1.2 max-stale permits", said: fields{"Cache-Control: max-age=60"}, after: 70 * time.Second, again: fields{"Cache-Control: max-stale=10"}, maxStale: hour},
		{name: "9111 5.2.1.2 max-stale does not widen", said: fields{"Cache-Control: max-age=60"}, after: 2 * hour, again: fields{"Cache-Control: max-stale"}, maxStale: hour, want: none},
		{name: "9111 5.2.1.2 max-stale without value", said: fields{"Cache-Control: max-age=60"}, after: 30 * time.Minute, again: fields{"Cache-Control: max-stale"}, maxStale: hour},
		{name: "9111 5.2.1.2 max-stale with max-age", said: fields{"Cache-Control: max-age=60"}, after: 15 * time.Second, again: fields{"Cache-Control: max-age=10, max-stale=5"}, maxStale: hour},
		{name: "9111 5.2.1.2 max-stale against must-revalidate", said: fields{"Cache-Control: max-age=60, must-revalidate"}, after: 61 * time.Second, again: fields{"Cache-Control: max-stale"}, maxStale: hour, want: none},
		{name: "9111 5.2.1.3 min-fresh, enough", said: fields{"Cache-Control: max-age=60"}, after: 50 * time.Second, again: fields{"Cache-Control: min-fresh=10"}},
		{name: "9111 5.2.1.3 min-fresh, too little", said: fields{"Cache-Control: max-age=60"}, after: 51 * time.Second, again: fields{"Cache-Control: min-fresh=10"}, maxStale: hour, want: none},
		{name: "9111 5.2.1.3 min-fresh of nonsense", said: fields{"Cache-Control: max-age=60"}, again: fields{"Cache-Control: min-fresh=x"}, want: none},
		{name: "9111 5.2.1.7 only-if-cached", said: fields{"Cache-Control: max-age=60"}, again: fields{"Cache-Control: only-if-cached"}},
		{name: "5861 4 stale-if-error asked for, within", said: fields{"Cache-Control: max-age=60"}, after: 70 * time.Second, again: fields{"Cache-Control: stale-if-error=10"}, maxStale: hour},
		{name: "5861 4 stale-if-error asked for, beyond", said: fields{"Cache-Control: max-age=60"}, after: 71 * time.Second, again: fields{"Cache-Control: stale-if-error=10"}, maxStale: hour, want: none},
		{name: "5861 4 stale-if-error regardless of max-age", said: fields{"Cache-Control: max-age=60"}, after: 70 * time.Second, again: fields{"Cache-Control: max-age=0, stale-if-error=10"}, maxStale: hour},
		{name: "5861 4 stale-if-error=0 asked for", said: fields{"Cache-Control: max-age=60"}, after: 61 * time.Second, again: fields{"Cache-Control: stale-if-error=0"}, maxStale: hour, want: none},
		{name: "9111 5.2 directives in capitals", said: fields{"Cache-Control: max-age=60"}, again: fields{"Cache-Control: NO-CACHE"}, want: none},

		// Preconditions that only the origin can judge, and other requests.
		{name: "9111 4.3.2 If-Match", said: fields{"Cache-Control: max-age=60", `ETag: "1"`}, again: fields{`If-Match: "1"`}, want: none},
		{name: "9111 4.3.2 If-Unmodified-Since", said: fields{"Cache-Control: max-age=60"}, again: fields{"If-Unmodified-Since: " + dated}, want: none},
		{name: "9110 7.8 Upgrade", said: fields{"Cache-Control: max-age=60"}, again: fields{"Upgrade: websocket", "Connection: Upgrade"}, want: none},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			status, want := c.status, c.want
			if status == 0 {
				status = 200
			}
			if want == "" {
				want = "good"
			}
			keep(t, cache, start, get(t, page, c.asked...), status, "good", c.said...)
			if got := found(t, cache, start.Add(c.after), c.maxStale, get(t, page, c.again...)); got != want {
				t.Errorf("asked again after %v with max_stale %v: %q, want %q", c.after, c.maxStale, got, want)
			}
		})
	}
}

// What comes after a good answer decides whether it is still the last good
// one.
func TestWhatFollows(t *testing.T) {
	for _, c := range []struct {
		name   string
		asked  []string
		status int
		said   []string
		want   string
	}{
		{name: "a newer answer", status: 200, said: []string{"Cache-Control: max-age=60"}, want: "second"},
		{name: "gone", status: 404, want: "second"},
		{name: "500", status: 500, want: "first"},
		{name: "503 that may be stored", status: 503, said: []string{"Cache-Control: max-age=60"}, want: "first"},
		{name: "503 that forbids storing", status: 503, said: []string{"Cache-Control: no-store"}, want: "first"},
		{name: "429", status: 429, want: "first"},
		{name: "400", status: 400, said: []string{"Cache-Control: no-store"}, want: "first"},
		{name: "a redirect for now", status: 302, said: []string{"Location: /maintenance"}, want: "first"},
		{name: "a part", status: 206, said: []string{"Content-Range: bytes 0-5/9", "Cache-Control: max-age=60"}, want: "first"},
		{name: "a good one that forbids storing", status: 200, said: []string{"Cache-Control: no-store"}, want: "none"},
		{name: "a good one that forbids reuse", status: 200, said: []string{"Cache-Control: no-cache"}, want: "none"},
		{name: "Vary: *", status: 200, said: []string{"Vary: *"}, want: "none"},
		{name: "not this user any more", status: 403, want: "none"},
		{name: "not this user without a login", status: 401, want: "none"},
		{name: "one that the caller wanted kept off the cache", asked: []string{"Cache-Control: no-store"}, status: 200, want: "first"},
		{name: "a refused range", asked: []string{"Range: bytes=0-1"}, status: 403, want: "first"},
		{name: "an older one, held up on its way", status: 200, said: []string{"Age: 600"}, want: "first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), 200, "first")
			keep(t, cache, start.Add(time.Second), get(t, page, c.asked...), c.status, "second", c.said...)
			if got := found(t, cache, start.Add(2*time.Second), time.Hour, get(t, page)); got != c.want {
				t.Errorf("after %d: %q, want %q", c.status, got, c.want)
			}
		})
	}
}

func TestOtherMethodsAreNotStored(t *testing.T) {
	for _, method := range []string{"HEAD", "POST", "PUT", "OPTIONS", "QUERY", "get"} {
		cache := new(Cache)
		req := request(t, method, page)
		resp := response(t, req, 200, "x", "Cache-Control: max-age=60")
		if got := cache.Keep(req, resp, start); got != resp {
			t.Errorf("%s: the response was wrapped", method)
		}
		if method != "HEAD" {
			keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: max-age=60")
			if _, ok := cache.Find(req, time.Hour, start); ok {
				t.Errorf("%s was answered from a stored GET", method)
			}
		}
	}
}

func TestRequestWithBodyIsNotStored(t *testing.T) {
	cache := new(Cache)
	search := get(t, page)
	search.Body = response(t, search, 200, `{"query": 1}`).Body
	search.ContentLength = -1
	keep(t, cache, start, search, 200, "answer to 1", "Cache-Control: max-age=60")
	if got := found(t, cache, start, time.Hour, get(t, page)); got != none {
		t.Errorf("the answer to a GET with a body was stored: %q", got)
	}
	keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: max-age=60")
	if _, ok := cache.Find(search, time.Hour, start); ok {
		t.Error("a GET with a body was answered from one without")
	}
}

// The news that an answer is not for this user any more, or not to be stored, is
// newer than what was asked for before it and comes after it.
func TestAskedBeforeARefusal(t *testing.T) {
	for _, place := range []string{"memory", "disk"} {
		for name, news := range map[string]struct {
			status int
			field  string
		}{"403": {403, "X: y"}, "no-store": {200, "Cache-Control: no-store"}} {
			cache := new(Cache)
			if place == "disk" {
				if runtime.GOOS == "windows" {
					continue
				}
				cache.Dir = t.TempDir()
			}
			keep(t, cache, start, get(t, page), 200, "good")
			req := get(t, page)
			asked := cache.Stamp(req)
			keep(t, cache, start, get(t, page), news.status, "news", news.field)
			drain(t, cache.KeepAnd(req, response(t, req, 200, "late"), asked, start, nil))
			if got := found(t, cache, start, time.Hour, req); got != none {
				t.Errorf("%s, %s: found %q", place, name, got)
			}
			keep(t, cache, start, get(t, page), 200, "again")
			if got := found(t, cache, start, time.Hour, req); got != "again" {
				t.Errorf("%s, %s: found %q of what was asked for after it", place, name, got)
			}
		}
	}
}

package integration

import (
	"net/http"
	"strings"
	"time"
)

// freshCase is a row of TestFreshThroughProxy.
type freshCase struct {
	name  string
	steps []step
}

// freshCases is the table, by RFC section.
func freshCases() []freshCase {
	const minute = "Cache-Control: max-age=60"
	now := time.Now()
	date := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	gone := &said{broken: true}
	busy := sayStatus(503, "busy")
	fresh := func(fields ...string) step { return reaching(say("one", append(fields, minute)...)) }
	two := reaching(say("two"))
	// reused and refetched: the answer to a second request, after the first had
	// these fields.
	reused := func(fields ...string) []step { return []step{reaching(say("one", fields...)), cached("one")} }
	refetched := func(fields ...string) []step { return []step{reaching(say("one", fields...)), two} }

	cases := []freshCase{
		// RFC 9111, section 3: storing.
		{"9111 3 max-age", reused(minute)},
		{"9111 3 nothing stated: no heuristics", refetched("Last-Modified: " + date(-240*time.Hour))},
		{"9111 3 public alone has no lifetime", refetched("Cache-Control: public")},
		{"9111 3 private is for us", reused("Cache-Control: private, max-age=60")},
		{"9111 3 no-store", refetched("Cache-Control: no-store, max-age=60")},
		{"9111 3 no-store on another line", refetched(minute, "Cache-Control: no-store")},
		{"9111 3 no-store in capitals", refetched("Cache-Control: MAX-AGE=60, NO-STORE")},
		{"9111 3 a status that is not final is not stored", []step{reaching(sayStatus(206, "on", minute, "Content-Range: bytes 0-1/3"), "Range: bytes=0-1"), two}},
		{"9111 3.1 fields of the connection", []step{
			reaching(say("one", minute, "Connection: X-Hop", "X-Hop: 1", "X-End: 1", "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Keep-Alive: timeout=5")),
			cached("one").having("X-End: 1", "X-Hop:", "Connection:", "Keep-Alive:", "Proxy-Authenticate:", "Proxy-Authentication-Info:"),
		}},
		{"9111 3.1 unknown fields, and several lines of one", []step{fresh("X-A: 1", "X-A: 2"), cached("one").having("X-A: 1, 2")}},
		{"9111 7.3 Set-Cookie is not replayed", []step{fresh("Set-Cookie: a=b").having("Set-Cookie: a=b"), cached("one").having("Set-Cookie:")}},
		{"9111 3.5 Authorization: each user's own", []step{
			reaching(say("alice's", minute), "Authorization: alice"), cached("alice's", "Authorization: alice"),
			reaching(say("bob's", minute), "Authorization: bob"), reaching(say("nobody's", minute)),
			cached("alice's", "Authorization: alice"), cached("bob's", "Authorization: bob"), cached("nobody's"),
		}},

		// Section 4: which request may be answered.
		{"9111 4 another query", []step{fresh(), reaching(say("two")).at("?x"), cached("one")}},
		{"9111 4 a POST is not answered", []step{fresh(), reaching(sayStatus(500, "no")).by("POST"), cached("one")}},
		{"9111 4 a HEAD is", []step{fresh("X-A: 1"), cached("one").by("HEAD").having("X-A: 1", "Content-Length: 3")}},
		{"9111 4 Age is generated", []step{reaching(say("one", minute, "Age: 30")), cached("one").having("Age: 30")}},
		{"9111 4 an answer to HEAD answers no GET", []step{reaching(say("", minute)).by("HEAD"), two}},

		// 4.1: Vary.
		{"9111 4.1 the same value", []step{reaching(say("de", minute, "Vary: X-L"), "X-L: de"), cached("de", "X-L: de")}},
		{"9111 4.1 another value", []step{reaching(say("de", minute, "Vary: X-L"), "X-L: de"), reaching(say("en", minute, "Vary: X-L"), "X-L: en"), cached("de", "X-L: de"), cached("en", "X-L: en")}},
		{"9111 4.1 absent is not empty, nor any value", []step{reaching(say("de", minute, "Vary: X-L"), "X-L: de"), reaching(say("none", minute, "Vary: X-L")), cached("none")}},
		{"9111 4.1 two fields, on two lines", []step{reaching(say("a1", minute, "Vary: X-A", "Vary: x-b"), "X-A: a", "X-B: 1"), cached("a1", "X-A: a", "X-B: 1"), reaching(say("a2", minute), "X-A: a", "X-B: 2")}},
		{"9111 4.1 a field in other order or letters", []step{reaching(say("a1", minute, "Vary: X-B, x-a"), "X-A: a", "X-B: 1"), cached("a1", "X-B: 1", "X-A: a")}},
		{"9111 4.1 lines and space are joined", []step{reaching(say("one", minute, "Vary: X-L"), "X-L: de", "X-L: en"), cached("one", "X-L: de, en")}},
		{"9111 4.1 *", refetched(minute, "Vary: *")},
		{"9111 4.1 * among others", refetched(minute, "Vary: X-L, *")},
		{"9111 4.1 a value in other letters is another", []step{reaching(say("de", minute, "Vary: X-L"), "X-L: de"), reaching(say("DE", minute), "X-L: DE")}},

		// 4.2: freshness and age.
		{"9111 4.2.1 max-age before Expires", reused(minute, "Expires: "+date(-time.Hour))},
		{"9111 4.2.1 max-age=0 before Expires", refetched("Cache-Control: max-age=0", "Expires: "+date(time.Hour))},
		{"9111 4.2.1 s-maxage is for shared caches", refetched("Cache-Control: s-maxage=60")},
		{"9111 4.2.1 s-maxage does not shorten either", reused("Cache-Control: max-age=60, s-maxage=0")},
		{"9111 4.2.1 Expires", reused("Date: "+date(0), "Expires: "+date(time.Minute))},
		{"9111 4.2.1 Expires is past", refetched("Date: "+date(0), "Expires: "+date(-time.Minute))},
		{"9111 4.2.1 Expires with an old Date and Age", []step{reaching(say("one", "Date: "+date(-2*time.Minute), "Age: 120", "Expires: "+date(-time.Minute))), two}},
		{"9111 5.3 Expires: 0", refetched("Expires: 0")},
		{"9111 5.3 Expires that is no date", refetched("Expires: tomorrow")},
		{"9111 5.3 Expires on two lines", refetched("Expires: "+date(time.Hour), "Expires: 0")},
		{"9111 5.3 Expires in RFC 850 form", reused("Expires: " + now.Add(time.Hour).UTC().Format("Monday, 02-Jan-06 15:04:05 GMT"))},
		{"9111 5.3 Expires in asctime form", reused("Expires: " + now.Add(time.Hour).UTC().Format(time.ANSIC))},
		{"9111 4.2 Expires in any case", reused("Date: "+strings.ToLower(date(0)), "Expires: "+strings.ToUpper(date(time.Hour)))},
		{"9111 5.3 Expires in another zone", refetched("Expires: " + now.Add(time.Hour).UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC"))},
		{"9111 4.2.3 Age", refetched(minute, "Age: 60")},
		{"9111 4.2.3 Age, just fresh", reused(minute, "Age: 30")},
		{"9111 4.2.3 an old Date", refetched(minute, "Date: "+date(-2*time.Minute))},
		{"9111 4.2.3 the older of both", refetched(minute, "Date: "+date(-2*time.Minute), "Age: 1")},
		{"9111 4.2.3 a Date ahead", reused(minute, "Date: "+date(time.Hour))},
		{"9111 5.1 Age on two lines: the first", refetched(minute, "Age: 60", "Age: 0")},
		{"9111 5.1 Age in a list: the first", refetched(minute, "Age: 60, 0")},
		{"9111 5.1 Age that is none", reused(minute, "Age: -60")},
		{"9111 5.1 Age with a fraction", reused(minute, "Age: 60.0")},
		{"9111 1.2.2 numbers beyond all bounds", reused("Cache-Control: max-age=99999999999999999999")},
		{"9111 1.2.2 Age beyond all bounds", refetched(minute, "Age: 99999999999999999999")},

		// 5.2: Cache-Control.
		{"9111 5.2 directives in any case", reused("Cache-Control: MaX-aGe=60")},
		{"9111 5.2 unknown directives", reused(`Cache-Control: a, b=c, d="e, no-store", max-age=60`)},
		{"9111 5.2 quoted", reused(`Cache-Control: max-age="60"`)},
		{"9111 5.2 in single quotes", refetched("Cache-Control: max-age='60'")},
		{"9111 5.2 leading zeros", reused("Cache-Control: max-age=0060")},
		{"9111 4.2.1 max-age negative", refetched("Cache-Control: max-age=-60")},
		{"9111 4.2.1 max-age with a fraction", refetched("Cache-Control: max-age=60.0")},
		{"9111 4.2.1 max-age followed by junk", refetched("Cache-Control: max-age=60;x")},
		{"9111 4.2.1 max-age twice unlike", refetched("Cache-Control: max-age=60, max-age=0")},
		{"9111 5.2 space around the equals sign", refetched("Cache-Control: max-age = 60")},
		{"9111 5.2.1.1 max-age=0", []step{fresh(), reaching(say("two", minute), "Cache-Control: max-age=0"), cached("two")}},
		{"9111 5.2.1.1 max-age, old enough", []step{reaching(say("one", minute, "Age: 30")), cached("one", "Cache-Control: max-age=40"), reaching(say("two"), "Cache-Control: max-age=20")}},
		{"9111 5.2.1.2 max-stale against must-revalidate", []step{reaching(say("one", "Cache-Control: max-age=60, must-revalidate", "Age: 70")), reaching(say("two"), "Cache-Control: max-stale=60")}},
		{"9111 5.2.1.3 min-fresh", []step{reaching(say("one", minute, "Age: 30")), cached("one", "Cache-Control: min-fresh=20"), reaching(say("two"), "Cache-Control: min-fresh=40")}},
		{"9111 5.2.1.4 no-cache", []step{fresh(), reaching(say("two", minute), "Cache-Control: no-cache"), cached("two")}},
		{"9111 5.2.1.5 no-store", []step{fresh(), reaching(say("two", minute), "Cache-Control: no-store"), cached("one")}},
		{"9111 5.2.1.7 only-if-cached", []step{step{status: 504, asks: []string{"Cache-Control: only-if-cached"}}, fresh(), cached("one", "Cache-Control: only-if-cached")}},
		{"9111 5.4 Pragma", []step{fresh(), reaching(say("two", minute), "Pragma: no-cache"), cached("two")}},
		{"9111 5.4 Pragma beside Cache-Control", []step{fresh(), cached("one", "Pragma: no-cache", "Cache-Control: max-age=60")}},
		{"9111 5.2.2.4 no-cache", refetched("Cache-Control: no-cache, max-age=60")},
		{"9111 5.2.2.4 no-cache is asked about", []step{
			reaching(say("one", "Cache-Control: no-cache, max-age=60", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "1"`)).giving(200, "one").sending(`If-None-Match: "1"`),
			reaching(busy), reaching(gone).giving(502, ""),
		}},
		{"9111 5.2.2.4 no-cache of a field", []step{reaching(say("one", `Cache-Control: max-age=60, no-cache="X-A"`, "X-A: 1", "X-B: 1")), cached("one").having("X-A:", "X-B: 1")}},
		{"9111 5.2.2.3 must-understand beside no-store", reused("Cache-Control: no-store, must-understand, max-age=60")},
		{"9111 5.2.2.2 must-revalidate, fresh", reused("Cache-Control: max-age=60, must-revalidate")},

		// 4.2.4: stale answers.
		{"9111 4.2.4 the origin is there", refetched(minute, "Age: 70")},
		{"9111 4.2.4 the connection ends", []step{reaching(say("one", minute, "Age: 70")), reaching(gone).giving(502, "").orStale("one")}},
		{"9111 4.2.4 503", []step{reaching(say("one", minute, "Age: 70")), reaching(busy).orStale("one")}},
		{"9111 4.2.4 404 is an answer", []step{reaching(say("one", minute, "Age: 70")), reaching(sayStatus(404, "none"))}},
		{"9111 4.2.4 must-revalidate, the connection ends", []step{reaching(say("one", "Cache-Control: max-age=60, must-revalidate", "Age: 70")), reaching(gone).giving(502, "")}},
		{"9111 4.2.4 must-revalidate, 503", []step{reaching(say("one", "Cache-Control: max-age=60, must-revalidate, stale-if-error=600", "Age: 70")), reaching(busy)}},
		{"9111 4.2.4 no-cache, the connection ends", []step{reaching(say("one", "Cache-Control: max-age=60, no-cache")), reaching(gone).giving(502, "")}},
		{"5861 4 503", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=60", "Age: 70")), reaching(busy).giving(200, "one").having("Age: 70", "Cache-Status: resagent; fwd=stale; fwd-status=503; ttl=-10")}},
		{"5861 4 500, 502, 504", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=60", "Age: 70")), reaching(sayStatus(500, "no")).giving(200, "one"), reaching(sayStatus(502, "no")).giving(200, "one"), reaching(sayStatus(504, "no")).giving(200, "one")}},
		{"5861 4 the connection ends", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=60", "Age: 70")), reaching(gone).giving(200, "one")}},
		{"5861 4 not while the origin answers", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=60", "Age: 70")), two}},
		{"5861 4 not longer", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=60", "Age: 130")), reaching(busy).orStale("one")}},
		{"5861 4 zero", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=0", "Age: 70")), reaching(busy)}},
		{"5861 4 the request's, narrower", []step{reaching(say("one", "Cache-Control: max-age=60, stale-if-error=60", "Age: 70")), reaching(busy, "Cache-Control: stale-if-error=5"), reaching(busy, "Cache-Control: stale-if-error=30").giving(200, "one")}},
		{"5861 4 the request's alone", []step{reaching(say("one", minute, "Age: 70")), reaching(busy, "Cache-Control: stale-if-error=5"), reaching(busy, "Cache-Control: stale-if-error=30").giving(200, "one")}},
		{"5861 4 the request's against must-revalidate", []step{reaching(say("one", "Cache-Control: max-age=60, must-revalidate", "Age: 70")), reaching(busy, "Cache-Control: stale-if-error=30")}},
		{"5861 4 the stored answer's word counts, not the failure's", []step{reaching(say("one", minute, "Age: 70")), reaching(sayStatus(503, "busy", "Cache-Control: stale-if-error=600")).orStale("one")}},
		{"5861 3 within", []step{
			reaching(say("one", "Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 70")),
			cached("one").having("Age: 70", "Cache-Status: resagent; hit; ttl=-10").then(say("two", minute)),
			cached("two"),
		}},
		{"5861 3 within, unchanged", []step{
			reaching(say("one", "Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 70", `ETag: "1"`)),
			cached("one").then(sayStatus(304, "", `ETag: "1"`, "Cache-Control: max-age=60, stale-while-revalidate=60")).sending(`If-None-Match: "1"`),
			cached("one").having("Age: 0"),
		}},
		{"5861 3 within, and the origin fails", []step{
			reaching(say("one", "Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 70")),
			cached("one").then(busy), cached("one").then(gone), cached("one").then(say("two", minute)), cached("two"),
		}},
		{"5861 3 beyond", refetched("Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 130")},
		{"5861 3 zero", refetched("Cache-Control: max-age=60, stale-while-revalidate=0", "Age: 60")},
		{"5861 3 not against must-revalidate", refetched("Cache-Control: max-age=60, stale-while-revalidate=60, must-revalidate", "Age: 70")},
		{"5861 3 not for who wants it fresh", []step{reaching(say("one", "Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 70")), reaching(say("two"), "Cache-Control: max-age=100")}},
		{"5861 3 a failure outlives the window no longer than it may", []step{
			reaching(say("one", "Cache-Control: max-age=60, stale-while-revalidate=5, stale-if-error=60", "Age: 70")), reaching(busy).giving(200, "one"),
		}},

		// 4.3: validation.
		{"9111 4.3.1 a tag, and a date", []step{
			reaching(say("one", "Cache-Control: max-age=0", `ETag: "1"`, "Date: "+date(0), "Last-Modified: "+date(-time.Hour))),
			reaching(sayStatus(304, "", `ETag: "1"`)).giving(200, "one").sending(`If-None-Match: "1"`, "If-Modified-Since: "+date(-time.Hour)),
		}},
		{"9111 4.3.1 a date", []step{
			reaching(say("one", "Cache-Control: max-age=0", "Date: "+date(0), "Last-Modified: "+date(-time.Hour))),
			reaching(sayStatus(304, "")).giving(200, "one").sending("If-None-Match:", "If-Modified-Since: "+date(-time.Hour)),
		}},
		{"9110 13.1.2 a tag that would be unchanged for ever", []step{
			reaching(say("one", "Cache-Control: max-age=0", "ETag: *")),
			two.sending("If-None-Match:"),
		}},
		{"9111 4.3.1 what must be revalidated", []step{
			reaching(say("one", "Cache-Control: max-age=0, must-revalidate", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "1"`)).giving(200, "one").sending(`If-None-Match: "1"`),
		}},
		{"9111 4.3.2 a tag that is the stored one's", []step{fresh(`ETag: "1"`), cached("", `If-None-Match: "1"`).giving(304, "").having(`ETag: "1"`, "Content-Length:")}},
		{"9111 4.3.2 weakly", []step{fresh(`ETag: W/"1"`), cached("", `If-None-Match: "1"`).giving(304, "")}},
		{"9111 4.3.2 in a list", []step{fresh(`ETag: "1"`), cached("", `If-None-Match: "0", W/"1"`).giving(304, "")}},
		{"9111 4.3.2 another tag", []step{fresh(`ETag: "1"`), cached("one", `If-None-Match: "2"`)}},
		{"9111 4.3.2 the tag goes before the date", []step{fresh(`ETag: "1"`, "Last-Modified: "+date(-time.Hour)), cached("one", `If-None-Match: "2"`, "If-Modified-Since: "+date(0))}},
		{"9111 4.3.2 the date", []step{fresh("Last-Modified: " + date(-time.Hour)), cached("", "If-Modified-Since: "+date(-time.Hour)).giving(304, ""), cached("one", "If-Modified-Since: "+date(-2*time.Hour))}},
		{"9110 13.1.3 a date that is none", []step{fresh("Last-Modified: " + date(-time.Hour)), cached("one", "If-Modified-Since: later")}},
		{"9111 4.3.2 what only the origin can judge", []step{fresh(`ETag: "1"`), reaching(sayStatus(412, "no"), `If-Match: "2"`)}},
		{"9111 4.3.3 a 304 to the client's own condition", []step{
			reaching(say("one", minute, "Age: 70", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "1"`, minute), `If-None-Match: "1"`).sending(`If-None-Match: "1"`),
			cached("one"),
		}},
		{"9111 4.3.3 a 304 about the client's own copy", []step{
			reaching(say("one", minute, "Age: 70", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "0"`, minute), `If-None-Match: "0"`), reaching(say("two", minute)),
		}},
		{"9111 4.3.3 a new answer", []step{reaching(say("one", "Cache-Control: max-age=0", `ETag: "1"`)), reaching(say("two", minute, `ETag: "2"`)), cached("two")}},
		{"9111 3.2 a 304 brings new fields", []step{
			reaching(say("one", "Cache-Control: max-age=0", `ETag: "1"`, "X-Old: 1", "X-Both: 1", "Content-Type: text/plain", "Content-Language: de")),
			reaching(sayStatus(304, "", `ETag: "1"`, minute, "X-Both: 2", "X-New: 3", "Content-Language: en")).giving(200, "one").having("X-Old: 1", "X-Both: 2", "X-New: 3", "Content-Length: 3", "Content-Language: en"),
			cached("one").having("X-Old: 1", "X-Both: 2", "X-New: 3", "Content-Length: 3", "Content-Type: text/plain"),
		}},
		{"9111 5.2.2.4 a 304 brings fields that no-cache names", []step{
			reaching(say("one", `Cache-Control: max-age=0, no-cache="X-A, Content-Length"`, `ETag: "1"`, "X-A: 1")),
			reaching(sayStatus(304, "", `ETag: "1"`, `Cache-Control: max-age=60, no-cache="X-A, Content-Length"`, "X-A: 2")).giving(200, "one").having("X-A: 2", "Content-Length: 3"),
			cached("one").having("X-A:"),
		}},
		{"9111 3.2 a 304 brings what is for its own exchange", []step{
			reaching(say("one", "Cache-Control: max-age=0", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "1"`, minute, "Set-Cookie: a=b", "Set-Cookie2: a=c", "Authentication-Info: nextnonce=1")).giving(200, "one").having("Set-Cookie: a=b", "Set-Cookie2: a=c", "Authentication-Info: nextnonce=1"),
			cached("one").having("Set-Cookie:", "Set-Cookie2:", "Authentication-Info:"),
		}},
		{"9111 3.2 a 304 that forbids storing", []step{
			reaching(say("one", "Cache-Control: max-age=0", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "1"`, "Cache-Control: no-store")).giving(200, "one").having("Cache-Control: no-store"),
			reaching(say("two")).sending("If-None-Match:"),
		}},
		{"9111 4.3.4 a strong tag that is another's", []step{
			reaching(say("one", "Cache-Control: max-age=0", `ETag: "1"`)),
			reaching(sayStatus(304, "", `ETag: "2"`, minute)).giving(200, "one"), two,
		}},
		{"9111 4.3.5 a HEAD that tells of a change", []step{fresh(`ETag: "1"`), reaching(say("", `ETag: "2"`), "Cache-Control: no-cache").by("HEAD"), two}},
		{"9111 4.3.5 a HEAD that tells of another length", []step{fresh(), reaching(say("", "Content-Length: 9"), "Cache-Control: no-cache").by("HEAD"), two}},
		{"9111 4.3.5 a HEAD that refreshes", []step{
			reaching(say("one", minute, "Age: 70", `ETag: "1"`, "X-A: 1")), reaching(say("", minute, `ETag: "1"`, "X-A: 2", "Content-Length: 3")).by("HEAD"), cached("one").having("X-A: 2"),
		}},

		// 4.4: invalidation.
		{"9111 4.4 POST", []step{fresh(), reaching(say("done")).by("POST"), two}},
		{"9111 4.4 PUT, DELETE, and what we do not know", []step{
			fresh(), reaching(sayStatus(204, "")).by("PUT"), fresh(), reaching(sayStatus(204, "")).by("DELETE"), fresh(), reaching(say("done")).by("FOO"), two,
		}},
		{"9111 4.4 a redirect is no error", []step{fresh(), reaching(sayStatus(303, "", "Location: /elsewhere")).by("POST"), two}},
		{"9111 4.4 an error changes nothing", []step{fresh(), reaching(sayStatus(400, "no")).by("POST"), reaching(sayStatus(500, "no")).by("POST"), cached("one")}},
		{"9111 4.4 a safe method changes nothing", []step{fresh(), reaching(say("")).by("OPTIONS"), cached("one")}},
		{"9111 4.4 for all users", []step{reaching(say("one", minute), "Authorization: alice"), reaching(say("done"), "Authorization: bob").by("POST"), reaching(say("two"), "Authorization: alice")}},
		{"9111 4.4 all variants", []step{reaching(say("de", minute, "Vary: X-L"), "X-L: de"), reaching(say("done"), "X-L: en").by("POST"), reaching(say("two"), "X-L: de")}},
		{"9111 4.4 another URI stays", []step{fresh(), reaching(say("done")).by("POST").at("/below"), cached("one")}},

		// Ranges.
		{"9111 3.3 a range is not answered", []step{fresh(), reaching(sayStatus(206, "on", "Content-Range: bytes 0-1/3"), "Range: bytes=0-1"), cached("one")}},
		{"9110 13.1.5 If-Range is not answered", []step{fresh(`ETag: "1"`), reaching(sayStatus(206, "on", "Content-Range: bytes 0-1/3"), "Range: bytes=0-1", `If-Range: "1"`), cached("one")}},
		{"9110 14.4 Content-Range means nothing beside 200", []step{reaching(say("one", minute, "Content-Range: bytes 0-1/3")), cached("one").having("Content-Range: bytes 0-1/3")}},
		{"9111 3.3 a part is not stored", []step{reaching(sayStatus(206, "on", minute, "Content-Range: bytes 0-1/3")), two}},
		{"9111 3.3 a failed range is no reason for the whole", []step{reaching(say("one", minute, "Age: 70", "Cache-Control: stale-if-error=60")), reaching(busy, "Range: bytes=0-1")}},

		// RFC 9110, section 15.1, and RFC 9111, section 3: statuses.
		{"9110 15.1 a status that nobody knows", []step{reaching(sayStatus(299, "one", minute)), cached("one").giving(299, "one")}},
		{"9110 15.1 a status that nobody knows, stale", []step{reaching(sayStatus(299, "one", minute, "Age: 70")), two}},
		{"9110 15.1 a failure is not stored", []step{reaching(sayStatus(500, "no", minute)), reaching(say("two", minute)), cached("two")}},
		{"9110 15.1 a failure does not replace a good answer", []step{fresh(), reaching(sayStatus(500, "no", minute), "Cache-Control: no-cache"), cached("one")}},
	}
	for _, status := range []int{203, 301, 302, 303, 307, 308, 404, 410} {
		cases = append(cases,
			freshCase{"9110 15.1 fresh " + http.StatusText(status), []step{reaching(sayStatus(status, "one", minute, "Location: /elsewhere")), cached("one").giving(status, "one")}},
			freshCase{"9110 15.1 stale " + http.StatusText(status), []step{reaching(sayStatus(status, "one", minute, "Age: 70", "Location: /elsewhere")), two}})
	}
	return cases
}

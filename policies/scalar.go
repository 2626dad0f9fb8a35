package policies

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration keeps every sum of a time and a policy's durations far from
// overflow.
const maxDuration = 365 * 24 * time.Hour

// minRate is one an hour: below it the time between two calls is no longer a
// limit but an outage.
const minRate = 1.0 / 3600

// parseDuration reads "50ms" and "1h30m"; sign and range are the rules'
// business.
func parseDuration(text string) (d time.Duration, problem, want string) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, "", ""
	}
	if number, ok := strings.CutSuffix(text, "d"); ok && isDecimal(number) {
		if days, err := strconv.ParseFloat(number, 64); err == nil && days <= 365 {
			return 0, quote(text) + " has a unit that is not known", fmt.Sprintf("write %sh; units are h, m, s, ms and us", strconv.FormatFloat(days*24, 'f', -1, 64))
		}
	}
	if isDecimal(text) {
		return 0, quote(text) + " has no unit", fmt.Sprintf("write %ss or %sms", text, text)
	}
	if isDecimal(strings.TrimRight(text, "hmsunµ")) && strings.TrimRight(text, "hmsunµ") != text {
		return 0, quote(text) + " is not a duration, or more than " + formatDuration(maxDuration), ""
	}
	return 0, quote(text) + " is not a duration", ""
}

// formatDuration writes d as a person would: "1m" and not "1m0s".
func formatDuration(d time.Duration) string {
	if d == None || d == 0 {
		return "none"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseRate reads "200/s" and "90/m".
func parseRate(text string) (r Rate, problem string) {
	number, unit, found := strings.Cut(text, "/")
	number, unit = strings.TrimSpace(number), strings.TrimSpace(unit)
	if !found || !isDecimal(strings.TrimPrefix(number, "-")) {
		return 0, quote(text) + " is not a rate"
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, quote(text) + " is not a rate"
	}
	switch unit {
	case "s":
	case "m":
		n /= 60
	default:
		return 0, quote(text) + " has a unit that is not known"
	}
	return Rate(n), ""
}

// String writes the rate as in a file, "200/s" or "90/m"; "none" for zero.
func (r Rate) String() string {
	n := float64(r)
	if n == 0 {
		return "none"
	}
	if perMinute := math.Round(n * 60); n != math.Trunc(n) && perMinute/60 == n {
		return strconv.FormatFloat(perMinute, 'f', -1, 64) + "/m"
	}
	return strconv.FormatFloat(n, 'f', -1, 64) + "/s"
}

// isDecimal reports whether s is digits with at most one point between them:
// no sign, exponent, underscore, hexadecimal or "inf", which strconv would
// take.
func isDecimal(s string) bool {
	whole, fraction, point := strings.Cut(s, ".")
	return isDigits(whole) && (!point || isDigits(fraction))
}

func isDigits(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// parseWhole reads a whole number. One that does not fit is cut to the
// nearest that does, and so out of every range a rule allows.
func parseWhole(text string) (n int64, ok bool) {
	digits := strings.TrimPrefix(text, "-")
	if !isDigits(digits) || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	n, _ = strconv.ParseInt(text, 10, 64)
	return n, true
}

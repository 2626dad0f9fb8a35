package policies

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxDuration keeps every sum of a time and a policy's durations far from
// overflow.
const maxDuration = 365 * 24 * time.Hour

// maxScalar bounds a number, a duration, a rate, true and false, in bytes. The
// messages about them repeat them whole.
const maxScalar = 64

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
	switch d {
	case None, 0:
		return "none"
	case P95:
		return "p95"
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

// scalarInto reads a single value into v, and holds it to its rule. Below zero
// and zero are words of the types' own, None and unsaid, so a file that writes
// them is judged here.
func scalarInto(n *Node, v reflect.Value, r rule) (problem, want string) {
	if n.Kind == List || n.Kind == Map {
		return "is " + n.Kind.String(), ""
	}
	if len(n.Text) > maxScalar && (n.Kind != String || v.Kind() != reflect.String) {
		return fmt.Sprintf("%s has %d characters", quote(n.Text), utf8.RuneCountInString(n.Text)), ""
	}
	if r.none && (n.Kind == String && n.Text == "none" || n.Kind == Number && n.Text == "0") {
		v.SetInt(None)
		return "", ""
	}
	if r.p95 && n.Kind == String && n.Text == "p95" {
		v.SetInt(int64(P95))
		return "", ""
	}
	switch v.Type() {
	case reflect.TypeFor[time.Duration]():
		return durationInto(n, v, r)
	case reflect.TypeFor[Rate]():
		return rateInto(n, v, r)
	}
	switch v.Kind() {
	case reflect.Bool:
		if n.Kind != Bool {
			return quote(n.Text) + " is neither true nor false", ""
		}
		v.SetBool(n.Text == "true")
		return "", ""
	case reflect.Int:
		number, ok := parseWhole(n.Text)
		if n.Kind == String && ok && number > 0 && r.number(float64(number), n.Text) == "" {
			return quote(n.Text) + " is a text and not a number", "write " + n.Text + " without quotes"
		}
		if n.Kind != Number || !ok {
			return notNumber(n, "a whole number"), ""
		}
		v.SetInt(number)
		if number <= 0 {
			r.none = false
		}
		return r.number(float64(number), n.Text), ""
	case reflect.Float64:
		number, err := strconv.ParseFloat(n.Text, 64)
		if n.Kind != Number || err != nil || strings.Trim(n.Text, "0123456789.eE+-") != "" {
			return notNumber(n, "a number"), ""
		}
		v.SetFloat(number)
		return r.number(number, n.Text), ""
	}
	if n.Kind != String {
		return n.Text + " is " + n.Kind.String() + " and not a text", `write "` + n.Text + `" in quotes`
	}
	v.SetString(n.Text)
	return r.text(n.Text)
}

func notNumber(n *Node, what string) string {
	if n.Kind == Number && n.Text != "" {
		return n.Text + " is not " + what
	}
	return quote(n.Text) + " is not " + what
}

func durationInto(n *Node, v reflect.Value, r rule) (problem, want string) {
	if n.Kind != String {
		if n.Kind == Number && isDigits(n.Text) && n.Text != "0" {
			return n.Text + " has no unit", fmt.Sprintf("write %ss or %sms", n.Text, n.Text)
		}
		return n.Text + " is not a duration", ""
	}
	d, problem, want := parseDuration(n.Text)
	if problem != "" {
		return problem, want
	}
	if d == 0 && r.none {
		v.SetInt(None)
		return "", ""
	}
	if d < 0 {
		return quote(n.Text) + " is below zero", ""
	}
	if d == 0 {
		return quote(n.Text) + " is not above zero", ""
	}
	v.SetInt(int64(d))
	return r.span(d), ""
}

func rateInto(n *Node, v reflect.Value, r rule) (problem, want string) {
	if n.Kind != String {
		if n.Kind == Number && isDecimal(n.Text) {
			return n.Text + " has no unit", fmt.Sprintf("write %s/s or %s/m", n.Text, n.Text)
		}
		return n.Text + " is not a rate", ""
	}
	rate, problem := parseRate(n.Text)
	if problem != "" {
		return problem, ""
	}
	if rate <= 0 {
		return quote(n.Text) + " is not above zero", ""
	}
	v.SetFloat(float64(rate))
	return r.rate(rate, n.Text), ""
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

// Package contract holds any http.RoundTripper to what callers of net/http
// rely on: [Run] takes one that is made over a base through every point, and
// compares what caller and server see with the bare http.Transport. [Check]
// does one point and gives its findings as text, so that other round trippers
// can be compared in a table.
//
// Most points are differences: the same exchange runs on the bare transport
// first, and its transcript is what is wanted. The others ask for what net/http
// leaves open, and a program that swaps its transport still relies on: a
// request body that is closed once, and nothing held after a panic.
package contract

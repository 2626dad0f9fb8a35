// Package scenarios has only tests: what happens over minutes, in simulations
// whose time is exact (testing/synctest), with the real transport over a
// queueing upstream, and over real connections where that is the point.
package scenarios

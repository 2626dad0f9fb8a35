// Package client is a process's one session with the host's agent, and the
// limits that live in it.
//
// [Default] is the process's session. A transport asks it for the [Limits] of
// an upstream and then takes permits and tokens from those: one
// compare-and-swap each, in memory shared with the agent, without a message
// or a system call as long as the process holds what it needs. Without an
// agent the same limits are the process's own.
package client

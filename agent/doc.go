// Package agent is the host's agent: it hands out policies over a Unix
// socket, and gives out the limits that all processes of the host share.
//
// Set the fields of an [Agent] and call [Agent.Run]. What it gave out stands
// in a ledger that outlives it, so that a killed agent comes back knowing it.
// The agent needs Linux; its client (agent/client) builds everywhere.
package agent

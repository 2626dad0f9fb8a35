// Package clients tries the transport below real API clients and a WebSocket
// library, and takes the peers through the contract suite for comparison. It is
// a module of its own, so that none of them enters the product's go.mod.
package clients

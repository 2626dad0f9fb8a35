// Package openapi holds what a running agent answers to docs/openapi.yaml, with
// a validator that is not ours. It is a module of its own, as the validator
// never enters the product's go.mod.
package openapi

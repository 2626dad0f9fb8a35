// The simulations, in a module of their own: programs, not part of the product.
module github.com/resagent/resagent/integration/simulate

go 1.26.0

replace github.com/resagent/resagent => ../..

require github.com/resagent/resagent v0.0.0

require golang.org/x/sys v0.49.0 // indirect

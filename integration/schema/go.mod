module github.com/resagent/resagent/integration/schema

go 1.26.0

require (
	github.com/goccy/go-yaml v1.19.2
	github.com/resagent/resagent v0.0.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
)

require golang.org/x/text v0.14.0 // indirect

replace github.com/resagent/resagent => ../..

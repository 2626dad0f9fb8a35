package policyfile_test

import (
	"fmt"
	"net/url"

	"github.com/resagent/resagent/policies/policyfile"
)

func ExampleLoad() {
	// In production: Load("/etc/resagent/policies.yaml", "/etc/resagent/policies.d").
	snapshot, err := policyfile.Load("testdata/design.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	u, _ := url.Parse("https://eu.pay.example.com/v1/charges")
	fmt.Println(snapshot.Lookup("POST", u).Name)
	// Output: payments
}

func ExampleParse() {
	_, err := policyfile.Parse("policies.yaml", []byte(`version: 1
upstreams:
  payments:
    match: [{host: payments.internal}]
    timeout: {attempt: 2}
    retry:
      max_atempts: 3
`))
	fmt.Println(err)
	// Output:
	// policies.yaml:5:24: upstreams.payments.timeout.attempt: 2 has no unit: write 2s or 2ms
	// policies.yaml:7:7: upstreams.payments.retry.max_atempts: unknown key: write max_attempts
}

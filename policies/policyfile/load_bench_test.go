package policyfile

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		var text strings.Builder
		text.WriteString("version: 1\nupstreams:\n")
		for i := range n {
			fmt.Fprintf(&text, `  up%d:
    match: [{host: host%d.internal}, {host: "*.up%d.example.com", path: /v1/}]
    timeout: {attempt: 2s, total: 8s}
    retry: {max_attempts: 3, backoff: {base: 50ms, max: 20s}, statuses: [429, 502, 503, 504]}
    bulkhead: {max_concurrent: 64, max_waiting: 128, max_wait: 100ms}
`, i, i, i)
		}
		data := []byte(text.String())
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse("bench.yaml", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

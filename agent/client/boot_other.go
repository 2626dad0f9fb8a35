//go:build !linux

package client

import "time"

// SinceBoot is for Linux; elsewhere no agent shares a clock.
func SinceBoot(t time.Time) time.Duration { return t.Sub(epoch) }

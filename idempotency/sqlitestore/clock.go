package sqlitestore

// clock is a moment, in nanoseconds.
type clock struct {
	boot   string // of the host; empty where it is not known
	steady int64  // since the boot
	wall   int64  // since 1970
}

// leased says whether a lease holds. One of an earlier boot does not: all
// processes of that boot are dead.
func (c clock) leased(boot string, until int64) bool { return boot == c.boot && c.steady < until }

// over says whether a TTL has passed: by both clocks, so that a wall clock set
// forward forgets nothing; by the wall clock alone after a reboot.
func (c clock) over(boot string, steady, wall int64) bool {
	return c.wall >= wall && (boot != c.boot || c.steady >= steady)
}

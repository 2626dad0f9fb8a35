// Package page is the memory that a process and the agent share.
//
// A process makes a [Page] of 64 KiB and passes it to the agent. In it lie
// cells, one cache line each; a limit cell counts what the process was
// granted of one limit in a single 64-bit word, so that taking and giving
// back a permit is one compare-and-swap on either side, and neither can see,
// or leave behind, half a change. The agent makes one [Control] page that
// every process reads.
//
// Layout 1, in bytes, little-endian machines and big-endian ones each in
// their own order (both sides are on one machine):
//
//	page      0      magic, 8 bytes
//	          8      layout version, 8 bytes
//	          16     unused, zero
//	          1024   limit cells, 512 of 64 bytes
//	          33792  outcome cells, 496 of 64 bytes
//
//	cell      0      word: epoch 16 bits | available 24 | in use 24
//	          8      target:  epoch 16 | 24 unused | permits 24   (agent writes)
//	          16     waiting: epoch 16 | 24 unused | callers 24   (process writes)
//	          24     extra:   epoch 16 | 24 unused | permits 24   (process writes)
//	          32     deposits, a count that only grows            (process writes)
//	          40     pending wake: 0 or 1                         (agent sets, process clears)
//	          48     calls that were sent 32 bits | their attempts 32, counts that only grow (process writes)
//	          56     calls that were not 32 | answers of the fallback 32  (process writes)
//
//	outcome   0      successes, a count that only grows, like the next two (process writes)
//	          8      failures
//	          16     the process's own troubles
//	          24     failures since the last success
//	          32     time of the last call, tenths of a second since boot
//	          40     dirty: 0 or 1                                (process sets, agent clears)
//	          48     slow calls, a count that only grows                  (process writes)
//	          56     mark: tenths of a second since boot 30 bits | successes until then 34 (process writes)
//
//	control   0      magic, 8 bytes
//	          8      layout version, 8 bytes
//	          16     heartbeat, a count that only grows
//	          24     generation of the policies
//	          32     unused, zero
//	          1024   circuits, 4000 of 8 bytes: state 2 bits | forced 1 | epoch 13 |
//	                 until 48, microseconds since boot; zero until an agent uses them
//	          33024  pauses, one for each circuit: until, microseconds since boot; zero: none
//
// Words 48 and 56 of a cell stay zero in an older process: it counts none of
// its calls. Another counts each call in one cell of its upstream. A half that
// overflows adds one to the half above it, and both wrap: the agent reads them
// once an hour, and more often while somebody asks.
//
// Nothing in a page is trusted by the agent: it clamps what it reads to its
// own ledger, and bounds its loops.
//
// The cells are plain Go and work on every system, also in private memory;
// mapping them needs Linux.
package page

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
//	          33792  outcome cells, 496 of 64 bytes: unused in layout 1, zero
//
//	cell      0      word: epoch 16 bits | available 24 | in use 24
//	          8      target:  epoch 16 | 24 unused | permits 24   (agent writes)
//	          16     waiting: epoch 16 | 24 unused | callers 24   (process writes)
//	          24     extra:   epoch 16 | 24 unused | permits 24   (process writes)
//	          32     deposits, a count that only grows            (process writes)
//	          40     pending wake: 0 or 1                         (agent sets, process clears)
//	          48     unused, zero
//
//	control   0      magic, 8 bytes
//	          8      layout version, 8 bytes
//	          16     heartbeat, a count that only grows
//	          24     generation of the policies
//	          32     unused, zero
//
// Nothing in a page is trusted by the agent: it clamps what it reads to its
// own ledger, and bounds its loops.
//
// The cells are plain Go and work on every system, also in private memory;
// mapping them needs Linux.
package page

// Package wire is the words that a process and the agent say to each other.
//
// A session begins as HTTP/1.1 on the agent's Unix socket:
//
//	GET /v1/session HTTP/1.1
//	Host: resagent
//	Connection: Upgrade
//	Upgrade: resagent/1
//
// answered by 101 with the fields of [LedgerHeader] and [LostHeader]. From
// then on each side sends JSON objects, one a line: [Message]. The process's
// first is a hello, which carries two descriptors (SCM_RIGHTS): its page, and
// the read end of a pipe whose other end it keeps for as long as it uses the
// page. The agent answers with a welcome that carries its control page, then
// the policies.
//
// Messages are hints and texts; every count is in the pages. Unknown fields
// and unknown types are ignored, and a line that is no JSON is skipped, so an
// older side and a newer one understand each other.
package wire

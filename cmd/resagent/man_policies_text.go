package main

// What resagent-policies(5) says around the keys.

const policiesIntroduction = `.SH DESCRIPTION
A file of policies says, for each upstream that the programs of a host call, how calls to it are bounded in time, retried, limited, broken off, and answered when all fails.
The agent reads it at its start and at
.BR "resagent reload" ,
and hands it out to all processes that use its transport, also to those that run already.
A program without an agent can read the same file.
.PP
The file is YAML, or JSON where its name ends in .json.
It is read strictly, and whole: an unknown key, a number without its unit or a limit of zero is refused with file, line, column and what to write instead, and a set with one mistake changes nothing that runs.
.B resagent check
reads files as the agent would,
.B resagent check \-\-strict
fails on what is allowed and hardly meant, and
.B resagent explain
says which policy a call gets and from which line each of its values comes.
.SS Inheritance
What is not said of an upstream is inherited from
.BR defaults ,
and from the built\-in values after that.
A section is inherited key by key, a list as a whole.
Timeout is always on; retry, retry_budget and circuit_breaker are on unless they are disabled.
The other sections are off unless they are written, for the upstream or in the defaults; {} writes one with its built\-in values.
An upstream that writes a section has it on, whatever the defaults say, unless it writes disabled: true.
.PP
A host that no upstream matches has retries, a retry budget and a circuit breaker with their built\-in values for itself, in each process, and 60 s to the response headers; nothing else.
.SS Drop\-ins
The files of policies.d, or of the folders that
.B \-\-policies\-dir
names, whose names end in .yaml, .yml or .json are laid over the main file in the order of their names.
Sections are merged key by key, lists replaced whole: a drop\-in may add upstreams, or change one value of one.
It cannot take a key away; it writes disabled: true, or none.
A drop\-in of 0 bytes, as a full disk leaves it, is refused, and so is a folder that is not there: its upstreams would be gone, and nobody told.
A drop\-in of comments alone says nothing, and so does an empty folder.
Only /etc/resagent/policies.d need not be there when the agent starts; once it was, it must stay.
.SS Values
.TP
.B duration
A number and its unit, as in 50ms, 10s, 1h30m; units are h, m, s, ms and us. At most a year.
.TP
.B rate
Calls per second or per minute, as in 200/s or 90/m. At least one an hour.
.TP
.B none
None of it: no timeout, no queue, no waiting. 0 says the same.
.TP
.B whole number
At most 16777215.
.TP
.B scope
host: with an agent, all processes of the host share the limit. process: each process has it for itself, as it has without an agent.
.PP
Anchors, aliases, tags and merge keys of YAML are refused: what upstreams share stands in defaults. A host that begins with * is written in quotes.
`

const policiesEnd = `.SH FILES
.TP
.I /etc/resagent/policies.yaml
What
.B resagent serve
reads.
.TP
.I /etc/resagent/policies.d/*.yaml
Drop\-ins, laid over it.
.TP
.I /usr/share/resagent/policies.schema.json
A JSON Schema of the file, for editors.
.SH SEE ALSO
.BR resagent (1)
`

// policyExamples are whole files. A test reads each as the agent would, and
// wants no warning.
var policyExamples = []struct{ says, file string }{
	{"An upstream with a deadline, and limits that all processes of the host share:", `version: 1
upstreams:
  payments:
    match: [{host: payments.internal}]
    timeout: {attempt: 2s, total: 8s}
    bulkhead: {max_concurrent: 64}
    rate_limit: {rate: 200/s, burst: 50}
`},
	{"One that honours idempotency keys, so that its POST and PATCH calls can be retried; reports take longer and are called once:", `version: 1
upstreams:
  orders:
    match: [{host: orders.internal}]
    idempotency: {}
  orders-reports:
    match: [{host: orders.internal, path: /reports}]
    timeout: {attempt: 5m, total: 5m}
    retry: {disabled: true}
`},
	{"What to give while an upstream is down: its last good answer for up to an hour, and after that a fixed one:", `version: 1
upstreams:
  rates:
    match: [{host: rates.internal}]
    fallback:
      stale: {max_stale: 1h}
      static: {status: 200, content_type: application/json, body: "[]"}
`},
	{"A partner with a contract for 90 calls a minute, who says when to come back; without the agent each process has a tenth of it:", `version: 1
upstreams:
  partner:
    match: [{host: "*.partner.example"}]
    rate_limit: {rate: 90/m, burst: 10, max_wait: 2s, local_rate: 9/m}
    retry: {max_retry_after: 30s, pause: all}
    on_agent_loss: local
`},
	{"Values for all upstreams, and one of them that differs:", `version: 1
defaults:
  timeout: {attempt: 1s, total: 3s}
  circuit_breaker: {slow_call_duration: 500ms}
upstreams:
  search:
    match: [{host: search.internal}]
  archive:
    match: [{host: archive.internal}]
    timeout: {attempt: 20s, total: 60s}
    circuit_breaker: {slow_call_duration: none}
`},
}

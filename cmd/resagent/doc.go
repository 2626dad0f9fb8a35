// Command resagent is the host agent and the tool to look at it and steer it.
//
//	resagent serve     the daemon
//	resagent help      all subcommands
//
// What is read by people or machines goes to standard output, everything else
// to standard error, as "resagent: what, where, what to do". It exits with 0
// if it did what it was asked, 1 if not, and 2 if it was asked wrongly.
package main

package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// deniedAdvice says which group to join to use a socket, as far as can be seen.
func deniedAdvice(socket string) string {
	advice := "the socket's group may use it: ls -l " + socket
	info, err := os.Stat(socket)
	if err != nil {
		return advice
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o060 != 0o060 {
		return advice
	}
	gid := strconv.FormatUint(uint64(owner.Gid), 10)
	group := gid
	if g, err := user.LookupGroupId(gid); err == nil {
		group = g.Name
	}
	name := "USER"
	if me, err := user.Current(); err == nil {
		name = me.Username
		if groups, err := me.GroupIds(); err == nil && slices.Contains(groups, gid) {
			return fmt.Sprintf("it is for the group %s, of which %s is a member by now: log in again", group, name)
		}
	}
	return fmt.Sprintf("it is for the group %s: sudo adduser %s %s, and log in again", group, name, group)
}

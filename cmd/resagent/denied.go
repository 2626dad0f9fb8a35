package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// deniedAdvice says which group to join to use a socket, as far as can be seen,
// or what to do where that group would give more than the socket.
func deniedAdvice(socket string) string {
	advice := "the socket's group may use it: ls -l " + socket
	info, err := os.Stat(socket)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("this user may not enter the folder %s, or one above it: whoever runs the agent lets its users in, or puts the socket elsewhere", filepath.Dir(socket))
	}
	if err != nil {
		return advice
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o060 != 0o060 {
		return advice
	}
	gid := strconv.FormatUint(uint64(owner.Gid), 10)
	group, join := gid, false
	if g, err := user.LookupGroupId(gid); err == nil {
		namesake, _ := user.Lookup(g.Name)
		group, join = g.Name, joinable(g, namesake)
	}
	name := "USER"
	if me, err := user.Current(); err == nil {
		name = me.Username
		if groups, err := me.GroupIds(); err == nil && slices.Contains(groups, gid) {
			return fmt.Sprintf("it is for the group %s, of which %s is a member by now: log in again", group, name)
		}
	}
	if !join {
		return fmt.Sprintf("it is for the group %s, which is not one to join for this: whoever runs the agent gives it another, chgrp GROUP %s, whose members may use it", group, socket)
	}
	return fmt.Sprintf("it is for the group %s: sudo adduser %s %s, and log in again", group, name, group)
}

// firstPerson is the first uid of people (UID_MIN, login.defs(5)); those below
// are the system's.
const firstPerson = 1000

// joinable says whether others may join a group for a socket's sake: not root's,
// nor a person's own. namesake is the user of its name, if there is one.
func joinable(g *user.Group, namesake *user.User) bool {
	if g.Gid == "0" {
		return false
	}
	if namesake == nil || namesake.Gid != g.Gid {
		return true
	}
	uid, err := strconv.Atoi(namesake.Uid)
	return err == nil && uid < firstPerson
}

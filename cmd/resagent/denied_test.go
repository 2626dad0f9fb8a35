package main

import (
	"os/user"
	"testing"
)

// Nobody is told to join a group that gives more than the socket.
func TestJoinable(t *testing.T) {
	for _, c := range []struct {
		name     string
		group    user.Group
		namesake *user.User
		want     bool
	}{
		{"root's", user.Group{Gid: "0", Name: "root"}, &user.User{Uid: "0", Gid: "0"}, false},
		{"a person's own", user.Group{Gid: "1000", Name: "ann"}, &user.User{Uid: "1000", Gid: "1000"}, false},
		{"the service's", user.Group{Gid: "990", Name: "resagent"}, &user.User{Uid: "990", Gid: "990"}, true},
		{"of no user's name", user.Group{Gid: "1001", Name: "staff"}, nil, true},
		{"of the name of a user of another", user.Group{Gid: "1001", Name: "ann"}, &user.User{Uid: "1000", Gid: "100"}, true},
	} {
		if got := joinable(&c.group, c.namesake); got != c.want {
			t.Errorf("a group %s: joinable is %v, want %v", c.name, got, c.want)
		}
	}
}

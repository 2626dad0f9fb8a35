package client

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Shared reports whether the permit is one of the host's, counted in the page
// that the process shares with the agent.
func (p Permit) Shared() bool {
	return p.gate != nil && p.from != nil && p.from.kind == hosted
}

// Inherit has what the process holds outlive an exec: the write end of its
// life pipe stays open in the program that takes its place, and the agent
// counts the permits as in use until the process ends, or closes the pipe and
// all its copies. To be called last before syscall.Exec; a child started
// meanwhile would have a copy. An error: nothing is shared.
func (s *Session) Inherit() error {
	pipe := s.lifeline.Load()
	if pipe == nil || s.Mode() != Attached {
		return errors.New("client: nothing is shared with the agent")
	}
	if _, err := unix.FcntlInt(pipe.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("client: keeping the life pipe open: %w", err)
	}
	return nil
}

//go:build !unix

package wire

import (
	"errors"
	"net"
	"os"
)

// try leaves everything to the queue.
func (c *Conn) try([]byte) (int, error) { return 0, nil }

func rights([]*os.File) []byte { return nil }

// ReceiveFiles is for Unix systems only.
func ReceiveFiles(*net.UnixConn, int, int) (*Message, []*os.File, []byte, error) {
	return nil, nil, nil, errors.New("wire: no descriptors can be passed on this system")
}

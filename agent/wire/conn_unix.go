//go:build unix

package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// try writes what the socket takes at once.
func (c *Conn) try(line []byte) (int, error) {
	raw, err := c.unix.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var werr error
	err = raw.Write(func(fd uintptr) bool {
		for {
			n, werr = syscall.Write(int(fd), line)
			if werr != syscall.EINTR {
				return true
			}
		}
	})
	if err != nil {
		return 0, err
	}
	if errors.Is(werr, syscall.EAGAIN) {
		return 0, nil
	}
	return max(n, 0), werr
}

func rights(files []*os.File) []byte {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return syscall.UnixRights(fds...)
}

// ReceiveFiles reads the first message of a session, with the descriptors
// that come along, at most max of them; the caller closes them. rest is what
// was read after the line. Further descriptors are closed. On an error
// nothing stays open.
func ReceiveFiles(u *net.UnixConn, maxLine, maxFiles int) (m *Message, files []*os.File, rest []byte, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files = nil
		}
	}()
	var line []byte
	buf, oob := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4*16))
	for {
		n, on, _, _, rerr := u.ReadMsgUnix(buf, oob)
		got, perr := parseRights(oob[:on])
		for _, f := range got {
			if len(files) < maxFiles {
				files = append(files, f)
			} else {
				f.Close()
			}
		}
		if errors.Is(rerr, io.EOF) {
			return nil, files, nil, fmt.Errorf("wire: connection closed before the first message: %w", io.EOF)
		}
		if rerr != nil {
			return nil, files, nil, fmt.Errorf("wire: reading the first message: %w", rerr)
		}
		if perr != nil {
			return nil, files, nil, fmt.Errorf("wire: descriptors: %w", perr)
		}
		line = append(line, buf[:n]...)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line, rest = line[:i], line[i+1:]
			break
		}
		if len(line) > maxLine {
			return nil, files, nil, fmt.Errorf("%w: more than %d bytes", ErrLine, maxLine)
		}
	}
	m = new(Message)
	if err := json.Unmarshal(line, m); err != nil {
		return nil, files, nil, fmt.Errorf("wire: first message: %.200v", err) // a long number in it is told whole
	}
	return m, files, rest, nil
}

func parseRights(oob []byte) (files []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	cmsgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, c := range cmsgs {
		fds, err := syscall.ParseUnixRights(&c)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

//go:build linux

package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// descriptorsPerPeer is what a session costs at most: the connection, the
	// page, the life pipe, the pidfd.
	descriptorsPerPeer = 4
	// descriptorsKept are for the agent itself: ledger, listeners, epoll, files.
	descriptorsKept = 32
	// connectionsPerUID leaves room for requests beside a user's sessions.
	connectionsPerUID = 2 * maxSessionsPerUID
	// adminConnections are the operators', on a socket of their own: what is
	// connected to the agent's leaves them their part, also where files are few.
	adminConnections = 128
	// fewRefusing are refused connections whose request is waited for, each for
	// requestWithin. Their descriptors are of those that are kept. Where there may
	// be more connections than sessions, those leave enough for manyRefusing.
	fewRefusing   = 8
	manyRefusing  = 64
	requestWithin = time.Second
)

// bounded is a listener that bounds who is connected, so that one user's
// connections take neither the descriptors nor the memory that others need. A
// connection that is one too many is told so and closed; net/http never sees it.
type bounded struct {
	*net.UnixListener
	agent *Agent

	most, perUID int
	refusing     int // that are waited for at most

	mu      sync.Mutex
	all     int
	of      map[int]int // by uid
	refused []*late     // the oldest first
}

// room is how many connections the limit of open files allows on the agent's
// socket and on the operators', and how many files all that there may be would
// need.
func room(files uint64) (most, admin int, need uint64) {
	most, admin = maxSessions+connectionsPerUID, adminConnections
	need = uint64((most+admin)*descriptorsPerPeer + descriptorsKept)
	if files < need {
		all := max(3, (int(files)-descriptorsKept)/descriptorsPerPeer)
		admin = min(admin, max(2, all/8))
		most = all - admin
	}
	return most, admin, need
}

// ofOneUser is how many of a socket's connections one user may have.
func ofOneUser(most int) int { return max(1, min(connectionsPerUID, most/2)) }

// openFiles is how many files this process may have open.
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64
	}
	return limit.Cur
}

// sayRoom warns where the limit of open files leaves room for fewer connections
// than there may be.
func (a *Agent) sayRoom(files uint64) {
	if most, admin, need := room(files); files < need {
		a.log().Warn("the limit of open files leaves room for few connections: raise it (LimitNOFILE=, ulimit -n)",
			"limit", files, "want", need, "connections", most, "of_one_user", ofOneUser(most), "of_operators", admin)
	}
}

func newBounded(a *Agent, l *net.UnixListener, most int) *bounded {
	refusing := fewRefusing
	if most > maxSessions {
		refusing = manyRefusing
	}
	return &bounded{UnixListener: l, agent: a, most: most, perUID: ofOneUser(most), refusing: refusing, of: make(map[int]int)}
}

// Accept gives the next connection that there is room for.
func (c *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := c.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := uidOf(conn)
		why := unknownPeer
		if err == nil {
			why, err = c.enter(uid)
		}
		if err == nil {
			return &counted{UnixConn: conn, leave: sync.OnceFunc(func() { c.leave(uid) })}, nil
		}
		c.agent.refusals.add(connections, why, uid, err)
		c.agent.warn("connection refused", uid, "reason", err)
		c.refuse(conn, err)
	}
}

// enter counts a connection in, or says why not.
func (c *bounded) enter(uid int) (cause, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.of[uid]; n >= c.perUID {
		return userFull, fmt.Errorf("this user has %d connections already, which is the most: end some of its programs; the agent's other socket has room of its own", n)
	}
	if c.all >= c.most {
		return agentFull, fmt.Errorf("the agent has %d connections already, which is the most: end some programs; the agent's other socket has room of its own", c.all)
	}
	c.all++
	c.of[uid]++
	return "", nil
}

func (c *bounded) leave(uid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.of[uid]--; c.of[uid] <= 0 {
		delete(c.of, uid)
	}
}

// late is a refused connection whose request has not come yet.
type late struct {
	conn   *net.UnixConn
	answer func() // once
}

// refuse answers once the request has come: clients take an answer before it for
// an error. Only so many are waited for: for one more the oldest is answered and
// closed now, since it has had the longest time, and is perhaps silent. Nobody is
// waited for here: others want to connect.
func (c *bounded) refuse(conn *net.UnixConn, why error) {
	conn.SetDeadline(time.Now().Add(requestWithin))
	one := &late{conn, sync.OnceFunc(func() { answerNo(conn, why) })}
	var oldest *late
	c.mu.Lock()
	if c.refused = append(c.refused, one); len(c.refused) > c.refusing {
		oldest = c.refused[0]
		c.refused = slices.Delete(c.refused, 0, 1)
	}
	c.mu.Unlock()
	if oldest != nil {
		oldest.answer()
		oldest.conn.Close()
	}
	go func() {
		defer conn.Close()
		conn.Read(make([]byte, 4<<10))
		one.answer()
		conn.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(conn, 64<<10)) // or who still writes would not read
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = slices.DeleteFunc(c.refused, func(l *late) bool { return l == one })
	}()
}

// answerNo delays nobody where the peer does not read: the answer fits the
// socket's buffer. The time is for a busy machine, on which this goroutine may not
// get its turn at once.
func answerNo(conn *net.UnixConn, why error) {
	body, _ := json.Marshal(Problem{Type: ProblemTypes + noConnection, Title: "no connection", Status: 503, Detail: why.Error()})
	conn.SetWriteDeadline(time.Now().Add(requestWithin))
	fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// uidOf is the user of the process that connected.
func uidOf(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, failed
	}
	return int(cred.Uid), nil
}

// counted is a connection of a bounded listener.
type counted struct {
	*net.UnixConn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.UnixConn.Close()
}

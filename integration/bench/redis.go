package main

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// bucket is a token bucket in a Redis on loopback, as one script in one round
// trip. It never says no: what is measured is the asking.
const bucket = `local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tat = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
if tat - now > 1000000000 then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', tat + 1))
return 1`

// redis is a server of Debian's package and one connection to it.
type redis struct {
	server *exec.Cmd
	conn   net.Conn
	in     *bufio.Reader
	take   string // the request
}

// newRedis starts a server in dir. Without one on this machine it returns nil.
func newRedis(dir string) (*redis, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	r := &redis{server: exec.Command(path, "--bind", "127.0.0.1", "--port", strconv.Itoa(addr.Port),
		"--save", "", "--appendonly", "no", "--dir", dir)}
	if err := r.server.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r.conn, err = net.Dial("tcp", addr.String()); err == nil {
			break
		}
		if time.Now().After(end) {
			r.Close()
			return nil, fmt.Errorf("redis-server does not listen: %w", err)
		}
	}
	r.in = bufio.NewReader(r.conn)
	if err := r.send(request("SCRIPT", "LOAD", bucket)); err != nil {
		r.Close()
		return nil, err
	}
	sum, err := r.in.ReadString('\n') // the second line of the bulk string
	if err != nil {
		r.Close()
		return nil, err
	}
	r.take = request("EVALSHA", strings.TrimSpace(sum), "1", "upstream")
	return r, nil
}

// request is a command in Redis's protocol (RESP2, redis.io/docs/reference/protocol-spec).
func request(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

// send sends a request and reads the first line of the answer.
func (r *redis) send(request string) error {
	if _, err := r.conn.Write([]byte(request)); err != nil {
		return err
	}
	line, err := r.in.ReadString('\n')
	if err == nil && line[0] == '-' {
		err = fmt.Errorf("redis: %s", strings.TrimSpace(line))
	}
	return err
}

// ask takes one token.
func (r *redis) ask() error { return r.send(r.take) }

// Close ends the server.
func (r *redis) Close() {
	if r.conn != nil {
		r.conn.Close()
	}
	r.server.Process.Kill()
	r.server.Wait()
}

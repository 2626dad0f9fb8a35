package redisstore

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of the test's own, on a socket in a folder.
type server struct {
	dir    string
	cmd    *exec.Cmd
	client *redis.Client
}

// start runs a server that has each acknowledged write on its disk. It fails
// where there is none: a store that nobody tried is not to look tried.
func start(t testing.TB) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: dir}
	t.Cleanup(func() {
		s.kill(t)
		os.RemoveAll(dir)
	})
	s.run(t)
	return s
}

func (s *server) run(t testing.TB) {
	t.Helper()
	socket := filepath.Join(s.dir, "s")
	s.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", s.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%v; install it: apt-get install redis-server", err)
	}
	s.client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := s.client.Ping(context.Background()).Err()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("redis-server does not answer: %v", err)
		}
	}
}

// kill ends it by SIGKILL.
func (s *server) kill(t testing.TB) {
	t.Helper()
	if s.client != nil {
		s.client.Close()
	}
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.cmd, s.client = nil, nil
}

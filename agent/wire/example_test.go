package wire_test

import (
	"fmt"
	"os"

	"github.com/resagent/resagent/agent/wire"
)

// The agent's socket is said by the environment, or where it always is.
func ExampleSocket() {
	os.Unsetenv(wire.SocketEnv)
	fmt.Println(wire.Socket())
	os.Setenv(wire.SocketEnv, "/tmp/mine.sock")
	defer os.Unsetenv(wire.SocketEnv)
	fmt.Println(wire.Socket())
	// Output:
	// /run/resagent/agent.sock
	// /tmp/mine.sock
}

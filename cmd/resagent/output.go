package main

import (
	"fmt"
	"os"
	"sync"
)

// stdout is where results go. What prints need not look at errors: [run] tells
// the first one. A pipe that nobody reads ends the process, as SIGPIPE does.
var stdout = &output{file: os.Stdout}

// output keeps the first error of a file.
type output struct {
	file *os.File
	mu   sync.Mutex
	err  error
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.file.Write(b)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("the output is not complete: %w", err)
	}
	return n, o.err
}

// failed is the first error; nil where all is written.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

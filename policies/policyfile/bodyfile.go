package policyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/resagent/resagent/policies"
)

// readBody reads what a body_file in the policy file named file names: a
// regular file, or a symbolic link to one, relative to the policy file's
// folder. It has at most left bytes of what all files together may have.
func readBody(file, path string, left int) (text, problem, want string) {
	name := path
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(file), name)
	}
	info, err := os.Stat(name) // before opening: to open a FIFO would wait for its writer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Sprintf("%s is not there", name), "write the path of a file, relative to this one"
	case err != nil:
		return "", fmt.Sprintf("%s: %v", name, reason(err)), remedy(err)
	case info.IsDir():
		return "", fmt.Sprintf("%s is a directory", name), "name a file in it"
	case !info.Mode().IsRegular():
		return "", fmt.Sprintf("%s is not a regular file", name), "write the body to a file"
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Sprintf("%s: %v", name, reason(err)), remedy(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, policies.MaxBody+1))
	switch {
	case err != nil:
		return "", fmt.Sprintf("%s: %v", name, reason(err)), "try again"
	case len(data) > policies.MaxBody:
		return "", fmt.Sprintf("%s is larger than %d KiB", name, policies.MaxBody>>10), "give less: each process keeps a copy"
	case len(data) > left:
		return "", fmt.Sprintf("the files are larger than %d MiB together", policies.MaxFileSize>>20), "say less, or say it in defaults"
	case !utf8.Valid(data):
		return "", fmt.Sprintf("%s is not UTF-8", name), "give text: policies are carried as JSON"
	}
	return string(data), "", ""
}

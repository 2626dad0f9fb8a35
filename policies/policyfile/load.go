package policyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/resagent/resagent/policies"
)

// maxDropins bounds the files that are laid over one another.
const maxDropins = 1000

// Load reads the file at path and what lies in the drop-in folders, and
// compiles it. A file or folder that is not there is an error, and so is a
// drop-in without a letter in it. Errors in what the files say are
// policies.Errors; errors in reading them wrap those of package fs. Both begin
// with the file's name, for people to read as they are.
func Load(path string, dropinDirs ...string) (*policies.Snapshot, error) {
	names := []string{path}
	for _, dir := range dropinDirs {
		found, err := dropins(dir)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	if len(names) > 1+maxDropins {
		return nil, fmt.Errorf("%s: there are %d drop-in files, more than %d: join some of them", dropinDirs[0], len(names)-1, maxDropins)
	}
	var trees []*policies.Node
	var syntax policies.Errors
	left := policies.MaxFileSize
	for i, name := range names {
		data, err := read(name, left)
		if err != nil {
			return nil, err
		}
		left -= len(data)
		if i > 0 && len(bytes.TrimSpace(data)) == 0 {
			syntax = append(syntax, emptyDropin(name))
			continue
		}
		tree, err := parse(name, data)
		if wrong, ok := errors.AsType[policies.Errors](err); ok {
			syntax = append(syntax, wrong...)
		} else {
			tree.BodyFiles(func(path string) (text, problem, want string) {
				text, problem, want = readBody(name, path, left)
				left -= len(text)
				return text, problem, want
			})
		}
		trees = append(trees, tree)
	}
	if len(syntax) > 0 {
		return nil, syntax
	}
	set, err := policies.Decode(trees...)
	if err != nil {
		return nil, err
	}
	return policies.Compile(set)
}

// Parse reads one file's text; name stands for it in messages, and a name
// that ends in .json says that it is JSON. It reads no other file: a body_file
// is refused. The error is a policies.Errors.
func Parse(name string, data []byte) (*policies.Set, error) {
	tree, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	tree.BodyFiles(func(string) (text, problem, want string) {
		return "", "this text is read by itself, without the files beside it", "write body, or read the file with Load"
	})
	return policies.Decode(tree)
}

func parse(name string, data []byte) (*policies.Node, error) {
	if filepath.Ext(name) == ".json" {
		return policies.JSONTree(data, name)
	}
	return yamlTree(data, name)
}

// dropins gives the files of a folder in the order of their names. Hidden
// files, and what editors and packages leave behind, do not end as ours do.
func dropins(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// Without it all that its files say would be gone, and nobody told.
		return nil, fmt.Errorf("%s: the drop-in folder is not there: %w: make it, empty if there are no drop-ins, or name another", dir, reason(err))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the drop-in folder cannot be read: %w: it must be a folder that this user may list", dir, reason(err))
	}
	var names []string
	for _, entry := range entries {
		ours := slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name()))
		if ours && !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, filepath.Join(dir, entry.Name()))
		}
	}
	return names, nil
}

// emptyDropin refuses what a copy onto a full disk leaves: taken as a file
// that says nothing, it would take its upstreams and limits away.
func emptyDropin(name string) *policies.Error {
	return &policies.Error{
		Position: policies.Position{File: name, Line: 1, Column: 1},
		Problem:  "there is nothing in the file",
		Want:     "write it again, or remove it; a drop-in that is to say nothing has a comment",
	}
}

// read reads a regular file, or a symbolic link to one, of at most left
// bytes.
func read(path string, left int) ([]byte, error) {
	info, err := os.Stat(path) // before opening: to open a FIFO would wait for its writer
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %s", path, reason(err), remedy(err))
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a directory: name a file in it", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is not a regular file: write the policies to a file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", path, reason(err), remedy(err))
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, int64(left)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: try again", path, reason(err))
	}
	if len(data) > left {
		return nil, fmt.Errorf("%s: the files are larger than %d MiB together: say less, or say it in defaults", path, policies.MaxFileSize>>20)
	}
	return data, nil
}

// remedy says what to do about a file that cannot be opened.
func remedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "write the policies there (version: 1 alone is enough), or name another file"
	case errors.Is(err, fs.ErrPermission):
		return "make it readable for this user"
	}
	return "mend the path, or name another file" // it leads in a circle, or through a file
}

// reason is err without the operation and path that the message has already.
func reason(err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		return inner.Err
	}
	return err
}

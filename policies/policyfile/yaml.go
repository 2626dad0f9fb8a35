package policyfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/resagent/resagent/policies"
)

// yamlTree parses one YAML document.
func yamlTree(data []byte, file string) (*policies.Node, error) {
	if len(data) > policies.MaxFileSize {
		return nil, policies.Errors{{Position: policies.Position{File: file}, Problem: fmt.Sprintf("is larger than %d MiB", policies.MaxFileSize>>20), Want: "say less, or say it in defaults"}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if wrong := checkText(data, file); wrong != nil {
		return nil, policies.Errors{wrong}
	}
	tokens := lexer.Tokenize(string(data))
	// The tokens are judged before the parser sees them: it recurses, and
	// its word for a host of * in place of "*" would help nobody.
	if wrong := checkTokens(tokens, file); len(wrong) > 0 {
		return nil, wrong
	}
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, policies.Errors{syntaxError(err, file)}
	}
	r := yamlReader{file: file}
	root := &policies.Node{Position: policies.Position{File: file, Line: 1, Column: 1}}
	switch full := documents(tree); len(full) {
	case 0:
	case 1:
		root = r.node(full[0].Body)
	default:
		at := full[1].Start
		if at == nil {
			at = full[1].Body.GetToken()
		}
		r.fail(at, "there is a second document", "leave out the line with ---, or put the rest into a drop-in file")
	}
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	return root, nil
}

// documents gives those that have something in them.
func documents(file *ast.File) (full []*ast.DocumentNode) {
	for _, document := range file.Docs {
		if document.Body != nil {
			full = append(full, document)
		}
	}
	return full
}

// checkText refuses what no text file has, and more to read than policies need.
func checkText(data []byte, file string) *policies.Error {
	line, column, marks := 1, 1, 0
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		at := policies.Position{File: file, Line: line, Column: column}
		switch {
		case r == utf8.RuneError && size == 1:
			return &policies.Error{Position: at, Problem: "the text is not UTF-8 here", Want: "save the file as UTF-8"}
		case r < 0x20 && r != '\n' && r != '\r' && r != '\t' || r == 0x7f:
			return &policies.Error{Position: at, Problem: fmt.Sprintf("there is a control character (%#02x) here", r), Want: "write text"}
		}
		if strings.ContainsRune(yamlMarks, r) {
			if marks++; marks > maxMarks {
				return &policies.Error{Position: at, Problem: fmt.Sprintf("there is too much in the file: more than %d lines, brackets, commas, quotes and the like", maxMarks), Want: "write what upstreams share in defaults, and long texts into a body_file"}
			}
		}
		i += size
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return nil
}

func position(t *token.Token, file string) policies.Position {
	if t == nil || t.Position == nil {
		return policies.Position{File: file}
	}
	return policies.Position{File: file, Line: t.Position.Line, Column: t.Position.Column}
}

// advice says what to do about the parser's messages, by a part of them.
var advice = []struct{ message, problem, want string }{
	{"character '\t'", "there is a tab in the indentation", "indent with spaces"},
	{"mapping value is not allowed", "there is a second key where a value ends", `begin each key of a section in the same column, and put a text with ": " in it in quotes`},
	{"unexpected key name", "there is a text where a key should be", "write key: value, with a space after the colon"},
	{"sequence end token ']' not found", "the [ that begins here is not closed", "close it with ]"},
	{"could not find flow mapping end token", "the { that begins here is not closed", "close it with }"},
	{"must be specified", "the list or section in brackets is not closed, or lacks a comma", "close it, or put a comma between its entries"},
	{"could not find end character", "the quote that begins here is not closed", "close it with the same quote"},
	{"block sequence entries are not allowed", "there is a - where no list can begin", "begin the list in a line of its own, or write [a, b]"},
	{"is a reserved character", "", "put the text in quotes"},
	{"invalid key", "there is no key before the colon", "write key: value"},
}

func syntaxError(err error, file string) *policies.Error {
	e := &policies.Error{Position: policies.Position{File: file}, Want: "check the indentation, quotes and brackets here"}
	message := "is not YAML"
	// The error's own text draws the source around it, at a cost that grows
	// with the square of the file.
	if described, ok := err.(interface {
		GetMessage() string
		GetToken() *token.Token
	}); ok {
		e.Position = position(described.GetToken(), file)
		message = described.GetMessage()
	}
	e.Problem = strings.Map(printable, message)
	for _, a := range advice {
		if strings.Contains(message, a.message) {
			if a.problem != "" {
				e.Problem = a.problem
			}
			e.Want = a.want
			break
		}
	}
	return e
}

// printable keeps a message in one line.
func printable(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return ' '
	}
	return r
}

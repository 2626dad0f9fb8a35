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

// maxDepth is deeper than any policy goes, and shallow enough for parsers
// that recurse.
const maxDepth = 32

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
	// What the tokens show is said before the parser, which recurses and
	// whose word for a host of * in place of "*" would help nobody.
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

// checkText refuses what no text file has.
func checkText(data []byte, file string) *policies.Error {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		at := policies.Position{File: file, Line: line, Column: column}
		switch {
		case r == utf8.RuneError && size == 1:
			return &policies.Error{Position: at, Problem: "the text is not UTF-8 here", Want: "save the file as UTF-8"}
		case r < 0x20 && r != '\n' && r != '\r' && r != '\t' || r == 0x7f:
			return &policies.Error{Position: at, Problem: fmt.Sprintf("there is a control character (%#02x) here", r), Want: "write text"}
		}
		i += size
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return nil
}

// checkTokens refuses the parts of YAML that are not read, and nesting that
// is too deep.
func checkTokens(tokens token.Tokens, file string) (errs policies.Errors) {
	var depth nesting
	for i, t := range tokens {
		problem, want := "", ""
		switch t.Type {
		case token.AliasType:
			problem, want = "a * that is not in quotes begins an alias", `put the text in quotes, as in host: "*.example.com"; aliases are not read`
		case token.AnchorType:
			problem, want = "a & that is not in quotes begins an anchor", "put the text in quotes; anchors are not read, and what upstreams share goes into defaults"
		case token.MergeKeyType:
			problem, want = "<< is a merge key", "write what upstreams share in defaults"
		case token.TagType:
			problem, want = "a ! that is not in quotes begins a tag", "put the text in quotes, or leave the tag out"
		case token.DirectiveType:
			problem, want = "a % at the beginning of a line is a directive", "leave it out"
		case token.MappingKeyType:
			problem, want = "a ? begins a key of many lines", "write key: value"
		}
		if depth.after(tokens, i) > maxDepth {
			return append(errs, &policies.Error{Position: position(t, file), Problem: "the nesting is too deep", Want: fmt.Sprintf("no policy goes deeper than %d levels", maxDepth)})
		}
		if problem != "" {
			errs = append(errs, &policies.Error{Position: position(t, file), Problem: problem, Want: want})
		}
		if len(errs) == maxSyntaxErrors {
			return errs
		}
	}
	return errs
}

// maxSyntaxErrors in one file; more of the same kind help nobody.
const maxSyntaxErrors = 20

// nesting follows how deep the tokens go, without recursion: the open
// brackets, and the columns at which blocks begin.
type nesting struct {
	flow    int
	columns []int
}

func (n *nesting) after(tokens token.Tokens, i int) int {
	t := tokens[i]
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow = max(0, n.flow-1)
	}
	first := i == 0 || tokens[i-1].Position.Line != t.Position.Line || tokens[i-1].Type == token.SequenceEntryType
	if n.flow == 0 && (first || t.Type == token.SequenceEntryType) {
		for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= t.Position.Column {
			n.columns = n.columns[:len(n.columns)-1]
		}
		n.columns = append(n.columns, t.Position.Column)
	}
	return n.flow + len(n.columns)
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
	e := &policies.Error{Position: policies.Position{File: file}, Problem: err.Error(), Want: "check the indentation, quotes and brackets here"}
	if described, ok := err.(interface {
		GetMessage() string
		GetToken() *token.Token
	}); ok {
		e.Position = position(described.GetToken(), file)
		e.Problem = described.GetMessage()
	}
	e.Problem = strings.Map(printable, e.Problem)
	for _, a := range advice {
		if strings.Contains(err.Error(), a.message) {
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

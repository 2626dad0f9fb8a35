package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxFileSize is the largest file or message that is read, in bytes. Ten
// thousand upstreams fit in it.
const MaxFileSize = 16 << 20

// maxDepth is deeper than any policy goes. maxValues is more than fit into a set:
// the shortest that many of may stand in it are statuses, 4 bytes with their
// comma. A value takes 200 bytes of memory.
const (
	maxDepth  = 32
	maxValues = MaxFileSize / 4
)

// ParseJSON reads a set from JSON, strictly: see [Decode]. file names it in
// messages and in Set.Origin. The error is an [Errors].
func ParseJSON(data []byte, file string) (*Set, error) {
	tree, err := JSONTree(data, file)
	if err != nil {
		return nil, err
	}
	return Decode(tree)
}

// UnmarshalJSON reads a set from the wire: unknown fields are ignored, so
// that an older library understands a newer agent, and of a key written twice
// the last counts. What is wrong in type or range is refused as [Errors]; for
// the rest use [Compile]. On an error s is not changed.
func (s *Set) UnmarshalJSON(data []byte) error {
	var set Set
	if err := unmarshalLax(data, reflect.ValueOf(&set).Elem()); err != nil {
		return err
	}
	*s = set
	return nil
}

// UnmarshalJSON reads a policy in the form in which a set has it; see
// [Set.UnmarshalJSON].
func (p *Policy) UnmarshalJSON(data []byte) error {
	var policy Policy
	if err := unmarshalLax(data, reflect.ValueOf(&policy).Elem()); err != nil {
		return err
	}
	*p = policy
	return nil
}

func unmarshalLax(data []byte, v reflect.Value) error {
	tree, err := JSONTree(data, "")
	if err != nil {
		return err
	}
	d := decoder{}
	d.value(tree, v, "", "")
	for _, e := range d.errs {
		e.Position = Position{} // a line of a message tells nobody anything
	}
	return d.errs.err()
}

// JSONTree parses one JSON value, for [Decode]. file names it in messages. The
// error is an [Errors].
func JSONTree(data []byte, file string) (*Node, error) {
	r := jsonReader{data: data, file: file}
	fail := func(offset int, problem, want string) (*Node, error) {
		return nil, Errors{{Position: r.position(offset), Problem: problem, Want: want}}
	}
	if len(data) > MaxFileSize {
		return nil, Errors{{Position: Position{File: file}, Problem: fmt.Sprintf("is larger than %d MiB", MaxFileSize>>20), Want: "split it, or say less"}}
	}
	for i, c := range data {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	if !utf8.Valid(data) {
		return fail(invalidUTF8(data), "the text is not UTF-8 here", "save the file as UTF-8")
	}
	r.tokens = json.NewDecoder(bytes.NewReader(data))
	r.tokens.UseNumber()
	tree, err := r.value(0)
	if err == nil {
		end := r.start()
		if _, more := r.tokens.Token(); more != io.EOF {
			return fail(end, "there is something after the end of the set", "write one JSON object alone")
		}
		return tree, nil
	}
	if errors.Is(err, errDepth) {
		return fail(r.start(), "the nesting is too deep", fmt.Sprintf("no policy goes deeper than %d levels", maxDepth))
	}
	if errors.Is(err, errValues) {
		return fail(r.start(), fmt.Sprintf("there is too much in the file: more than %d values", maxValues), "write what upstreams share in defaults")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return fail(0, "there is nothing in the file", `write {"version": 1, "upstreams": {...}}`)
	}
	// The token reader's own places are not those of the mistakes.
	syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(data, new(json.RawMessage)))
	if !ok || int(syntax.Offset) >= len(data) && strings.Contains(syntax.Error(), "unexpected end") {
		return fail(len(data), "the JSON ends too early", "close what is open")
	}
	return fail(int(syntax.Offset)-1, "is not JSON: "+syntax.Error(), "check the quotes, commas and brackets here")
}

// invalidUTF8 gives the offset of the first byte that is not UTF-8.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}

var (
	errDepth  = errors.New("too deep")
	errValues = errors.New("too many values")
)

type jsonReader struct {
	data   []byte
	file   string
	lines  []int // offsets at which lines 2, 3, ... begin
	tokens *json.Decoder
	values int // so far

	// The place of the newest position: on the wire a whole set is one line,
	// whose columns are not to be counted from its beginning each time.
	at, line, column int
}

// start is the offset of the next token.
func (r *jsonReader) start() int {
	at := int(r.tokens.InputOffset())
	for at < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[at]) >= 0 {
		at++
	}
	return at
}

func (r *jsonReader) position(offset int) Position {
	offset = min(offset, len(r.data))
	line, exact := slices.BinarySearch(r.lines, offset)
	if exact {
		line++
	}
	if line != r.line || offset < r.at {
		r.line, r.at, r.column = line, 0, 0
		if line > 0 {
			r.at = r.lines[line-1]
		}
	}
	r.column += utf8.RuneCount(r.data[r.at:offset])
	r.at = offset
	return Position{File: r.file, Line: line + 1, Column: 1 + r.column}
}

func (r *jsonReader) value(depth int) (*Node, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	if r.values++; r.values > maxValues {
		return nil, errValues
	}
	n := &Node{Position: r.position(r.start())}
	token, err := r.tokens.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		return n, nil
	case bool:
		n.Kind, n.Text = Bool, fmt.Sprint(t)
		return n, nil
	case json.Number:
		n.Kind, n.Text = Number, t.String()
		return n, nil
	case string:
		n.Kind, n.Text = String, t
		return n, nil
	}
	if token == json.Delim('[') {
		n.Kind = List
		for r.tokens.More() {
			item, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, item)
		}
	} else {
		n.Kind = Map
		for r.tokens.More() {
			entry := Entry{KeyPosition: r.position(r.start())}
			key, err := r.tokens.Token()
			if err != nil {
				return nil, err
			}
			entry.Key = key.(string)
			if entry.Value, err = r.value(depth + 1); err != nil {
				return nil, err
			}
			n.Entries = append(n.Entries, entry)
		}
	}
	_, err = r.tokens.Token() // the closing bracket
	return n, err
}

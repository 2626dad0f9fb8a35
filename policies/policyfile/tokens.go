package policyfile

import (
	"fmt"

	"github.com/goccy/go-yaml/token"

	"github.com/resagent/resagent/policies"
)

// The parser recurses for each level, and for each key of a section, and its
// time for a section grows with the square of its keys. These bounds are
// beyond what policies need, and within what it can do.
const (
	maxDepth        = 32
	maxTopKeys      = 64
	maxSectionKeys  = 1024
	maxSyntaxErrors = 20 // in one file; more of the same kind help nobody
)

// The lexer reads a file whole, and takes 200 bytes for each token: of a file of
// 16 MiB that is all commas, 3.4 GB. So what makes tokens is counted before. A
// set of MaxUpstreams that each say all there is has half of this.
const (
	yamlMarks = "\n,:[]{}-?*&!|>%@`\"'"
	maxMarks  = 256 * policies.MaxUpstreams
)

// notRead has what there is in YAML and not in policy files.
var notRead = map[token.Type]struct{ problem, want string }{
	token.AliasType:      {"a * that is not in quotes begins an alias", `put the text in quotes, as in host: "*.example.com"; aliases are not read`},
	token.AnchorType:     {"a & that is not in quotes begins an anchor", "put the text in quotes; anchors are not read, and what upstreams share goes into defaults"},
	token.MergeKeyType:   {"<< is a merge key", "write what upstreams share in defaults"},
	token.TagType:        {"a ! that is not in quotes begins a tag", "put the text in quotes, or leave the tag out"},
	token.DirectiveType:  {"a % at the beginning of a line is a directive", "leave it out"},
	token.MappingKeyType: {"a ? begins a key of many lines", "write key: value"},
}

// checkTokens refuses the parts of YAML that are not read, and what is too
// deep or too long for the parser.
func checkTokens(tokens token.Tokens, file string) (errs policies.Errors) {
	var shape outline
	for i, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if refused, ok := notRead[t.Type]; ok {
			errs = append(errs, &policies.Error{Position: position(t, file), Problem: refused.problem, Want: refused.want})
		}
		if problem, want := shape.add(tokens, i); problem != "" {
			return append(errs, &policies.Error{Position: position(t, file), Problem: problem, Want: want})
		}
		if len(errs) == maxSyntaxErrors {
			break
		}
	}
	return errs
}

// outline follows how deep and how long the sections of a file are, without
// recursion: by the columns at which blocks begin, and by open brackets.
type outline struct {
	blocks []block
	flows  []int // commas in each open bracket
}

type block struct{ column, entries int }

func (o *outline) add(tokens token.Tokens, i int) (problem, want string) {
	t := tokens[i]
	entries, most, inFlow := 0, maxSectionKeys, len(o.flows) > 0
	switch {
	case t.Type == token.SequenceStartType || t.Type == token.MappingStartType:
		o.flows = append(o.flows, 0)
	case inFlow && (t.Type == token.SequenceEndType || t.Type == token.MappingEndType):
		o.flows = o.flows[:len(o.flows)-1]
	case inFlow && t.Type == token.CollectEntryType:
		o.flows[len(o.flows)-1]++
		entries = o.flows[len(o.flows)-1]
	}
	begins := i == 0 || tokens[i-1].Position.Line != t.Position.Line ||
		tokens[i-1].Type == token.SequenceEntryType || t.Type == token.SequenceEntryType
	if begins && !inFlow {
		entries = o.entry(t.Position.Column)
	}
	switch depth := len(o.blocks) + len(o.flows); {
	case depth > maxDepth:
		return "the nesting is too deep", fmt.Sprintf("no policy goes deeper than %d levels", maxDepth)
	case depth == 1:
		most = maxTopKeys
	case depth == 2 || depth == 3 && inFlow: // a file may be one pair of brackets
		most = policies.MaxUpstreams
	}
	if entries > most {
		return "the section is too long", fmt.Sprintf("write at most %d entries", most)
	}
	return "", ""
}

// entry counts one more entry of the block that begins at column.
func (o *outline) entry(column int) int {
	for len(o.blocks) > 0 && o.blocks[len(o.blocks)-1].column > column {
		o.blocks = o.blocks[:len(o.blocks)-1]
	}
	if len(o.blocks) == 0 || o.blocks[len(o.blocks)-1].column < column {
		o.blocks = append(o.blocks, block{column, 0})
	}
	last := &o.blocks[len(o.blocks)-1]
	last.entries++
	return last.entries
}

package policyfile

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/resagent/resagent/policies"
)

// yamlReader turns the parser's tree into ours.
type yamlReader struct {
	file string
	errs policies.Errors
}

func (r *yamlReader) fail(t *token.Token, problem, want string) {
	r.errs = append(r.errs, &policies.Error{Position: position(t, r.file), Problem: problem, Want: want})
}

func (r *yamlReader) node(n ast.Node) *policies.Node {
	out := &policies.Node{Position: position(n.GetToken(), r.file)}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.Kind, out.Text = policies.Bool, "false"
		if n.Value {
			out.Text = "true"
		}
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.Kind, out.Text = policies.Number, n.GetToken().Value
	case *ast.StringNode:
		out.Kind, out.Text = policies.String, n.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = policies.String, n.Value.Value
	case *ast.SequenceNode:
		out.Kind = policies.List
		for _, item := range n.Values {
			out.Items = append(out.Items, r.node(item))
		}
	case *ast.MappingNode:
		out.Kind = policies.Map
		for _, value := range n.Values {
			r.entry(out, value)
		}
		if len(n.Values) > 0 && !n.IsFlowStyle {
			out.Position = out.Entries[0].KeyPosition // the parser's is the first colon
		}
	case *ast.MappingValueNode:
		out.Kind = policies.Map
		r.entry(out, n)
	default:
		r.fail(n.GetToken(), "this kind of YAML is not read", "write plain keys, lists and values")
	}
	return out
}

func (r *yamlReader) entry(out *policies.Node, value *ast.MappingValueNode) {
	key := value.Key.GetToken()
	entry := policies.Entry{Key: key.Value, KeyPosition: position(key, r.file)}
	if s, ok := value.Key.(*ast.StringNode); ok {
		entry.Key = s.Value
	}
	entry.Value = r.node(value.Value)
	if entry.Value.Kind == policies.Null {
		entry.Value.Position = entry.KeyPosition // an implicit null has no place of its own
	}
	out.Entries = append(out.Entries, entry)
}

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/policies/policyfile"
)

// policiesManual writes resagent-policies(5). What it says of the keys is what
// the JSON Schema says, so that people and editors read the same.
func policiesManual(w io.Writer) error {
	schema, err := policies.JSONTree(policyfile.Schema, "schema.json")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, `.TH RESAGENT\-POLICIES 5 2026-11-28 "resagent %s" "File Formats"
.nh
.SH NAME
resagent\-policies \- the policies that resagent hands out to the processes of a host
.SH SYNOPSIS
.I /etc/resagent/policies.yaml
.br
.I /etc/resagent/policies.d/*.yaml
%s.SH KEYS
What stands behind a key's name is what may be written there.
`, roff(versionText()), policiesIntroduction)
	m := keyManual{w: w, root: schema}
	for _, e := range member(schema, "properties").Entries {
		m.entry("", e.Key, e.Value)
	}
	policy := member(member(schema, "$defs"), "policy")
	for _, e := range member(policy, "properties").Entries {
		m.section(e.Key, m.resolved(e.Value))
	}
	fmt.Fprint(w, ".SH EXAMPLES\n")
	for i, e := range policyExamples {
		if i > 0 {
			fmt.Fprintln(w, ".PP")
		}
		fmt.Fprintf(w, "%s\n.PP\n.EX\n%s.EE\n", roff(e.says), roff(e.file))
	}
	fmt.Fprint(w, policiesEnd)
	return nil
}

// keyManual writes what a schema says of each key.
type keyManual struct {
	w    io.Writer
	root *policies.Node
}

// section writes a key of a policy, and those below it.
func (m keyManual) section(path string, node *policies.Node) {
	fmt.Fprintf(m.w, ".SS %s\n", roff(path))
	if member(node, "properties") == nil && !isSections(node) {
		m.entry("", path, node)
		return
	}
	fmt.Fprintf(m.w, "%s\n", roff(text(node, "description")))
	m.below(path, node)
}

// entry writes one key, and those below it.
func (m keyManual) entry(path, key string, given *policies.Node) {
	node, at := m.resolved(given), key
	if path != "" {
		at = path + "." + key
	}
	fmt.Fprintf(m.w, ".TP\n.BR %s \" \\fR(%s)\"\n", roff(at), roff(m.kind(given)))
	says := text(given, "description")
	if says == "" {
		says = text(node, "description")
	}
	fmt.Fprintf(m.w, "%s\n", roff(says))
	if path != "" {
		m.below(at, node)
	}
}

func (m keyManual) below(path string, node *policies.Node) {
	if isSections(node) {
		node = m.resolved(member(node, "items"))
	}
	if properties := member(node, "properties"); properties != nil {
		for _, e := range properties.Entries {
			m.entry(path, e.Key, e.Value)
		}
	}
}

// kind says in words what may be written.
func (m keyManual) kind(node *policies.Node) string {
	if name, ok := strings.CutPrefix(text(node, "$ref"), "#/$defs/"); ok && (name == "duration" || name == "rate") {
		return name
	}
	node = m.resolved(node)
	if all := member(node, "anyOf"); all != nil {
		var kinds []string
		for _, one := range all.Items {
			kinds = append(kinds, m.kind(one))
		}
		return strings.Join(kinds, ", or ")
	}
	if one := member(node, "const"); one != nil {
		return one.Text
	}
	if words := member(node, "enum"); words != nil {
		var all []string
		for _, word := range words.Items {
			if word.Text != "0" { // the same as none
				all = append(all, word.Text)
			}
		}
		return strings.Join(all, " | ")
	}
	switch text(node, "type") {
	case "integer":
		least, _ := strconv.Atoi(text(node, "minimum"))
		if most := text(node, "maximum"); most != strconv.Itoa(policies.MaxLimit) {
			return fmt.Sprintf("whole number from %d to %s", least, most)
		}
		return fmt.Sprintf("whole number, %d or more", max(least, 1)) // 0 is none, which is said apart
	case "number":
		if least := text(node, "minimum"); least != "" {
			return "number from " + least + " to " + text(node, "maximum")
		}
		return "number above 0, at most " + text(node, "maximum")
	case "boolean":
		return "true | false"
	case "array":
		return "list of " + plural(m.kind(member(node, "items")))
	case "object":
		if member(node, "properties") == nil && text(member(node, "additionalProperties"), "type") == "string" {
			return "section of texts"
		}
		return "section"
	}
	return "text"
}

func plural(kind string) string {
	if rest, ok := strings.CutPrefix(kind, "whole number "); ok {
		return "whole numbers " + rest
	}
	return kind + "s"
}

// resolved follows a reference.
func (m keyManual) resolved(node *policies.Node) *policies.Node {
	if name, ok := strings.CutPrefix(text(node, "$ref"), "#/$defs/"); ok {
		return member(member(m.root, "$defs"), name)
	}
	return node
}

// isSections reports whether node is a list whose items have keys.
func isSections(node *policies.Node) bool {
	items := member(node, "items")
	return items != nil && (member(items, "properties") != nil || text(items, "$ref") != "")
}

// member is the value of a key of a JSON object, nil where there is none.
func member(node *policies.Node, key string) *policies.Node {
	if node == nil || node.Kind != policies.Map {
		return nil
	}
	for _, e := range node.Entries {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// text is a member that is a single value, as written.
func text(node *policies.Node, key string) string {
	if value := member(node, key); value != nil {
		return value.Text
	}
	return ""
}

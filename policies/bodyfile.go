package policies

import "slices"

// BodyFiles puts the text of files into a tree that is to be decoded: where a
// fixed answer has the key body_file, body takes its place, with what read
// gives for the path as it is written. Where read gives a problem, and what to
// write instead, [Decode] reports it at the place of the path.
//
// So a [Set] holds the text and no path: it goes to other processes, which
// need not have the file, or may not read it.
func (n *Node) BodyFiles(read func(path string) (text, problem, want string)) {
	for _, policy := range append(n.at("upstreams").values(), n.at("defaults")) {
		static := policy.at("fallback").at("static")
		if static == nil {
			continue
		}
		for i, e := range static.Entries {
			if e.Key != "body_file" {
				continue
			}
			value := *e.Value // the tree is the caller's; its nodes may be in others too
			beside := func(other Entry) bool { return other.Key == "body" && other != e }
			switch {
			case value.Kind == Null:
				value.problem, value.want = "is empty", "write the path of a file, or leave the key out"
			case value.Kind != String || value.Text == "":
				value.problem, value.want = quote(value.Text)+" is not the path of a file", `write it in quotes, such as "sorry.html"`
			case slices.ContainsFunc(static.Entries, beside):
				value.problem, value.want = "stands beside body, or is there twice", "keep one of them"
			default:
				value.Text, value.problem, value.want = read(value.Text)
			}
			if value.problem == "" {
				static.Entries[i].Key = "body"
			}
			static.Entries[i].Value = &value
		}
	}
}

// at gives the value of a map's key, the last where it is written twice; nil
// where there is none.
func (n *Node) at(key string) (value *Node) {
	if n != nil {
		for _, e := range n.Entries {
			if e.Key == key {
				value = e.Value
			}
		}
	}
	return value
}

// values gives the values of a map.
func (n *Node) values() (all []*Node) {
	if n != nil {
		for _, e := range n.Entries {
			all = append(all, e.Value)
		}
	}
	return all
}

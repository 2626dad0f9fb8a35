package policies

// Kind is what a [Node] holds.
type Kind uint8

// The kinds of a Node.
const (
	Null   Kind = iota // nothing: "key:" in YAML, null in JSON
	Bool               // Text is "true" or "false"
	Number             // Text is the number as written
	String             // Text is the string, unquoted
	List               // Items
	Map                // Entries
)

// String names the kind as messages do.
func (k Kind) String() string {
	names := [...]string{"empty", "a true or false", "a number", "a text", "a list", "a section with keys of its own"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Node is one value of a parsed file, with its place: what the YAML and the
// JSON reader have in common.
type Node struct {
	Kind     Kind
	Position Position
	Text     string
	Items    []*Node
	Entries  []Entry

	problem, want string // of a file that this names; see BodyFiles
}

// Entry is one key of a Map, in the order of the file. A key written twice is
// there twice.
type Entry struct {
	Key         string
	KeyPosition Position
	Value       *Node
}

// overlay lays a later tree over an earlier one: maps key by key, everything
// else replaced whole. Neither is changed. Of a key written twice the last
// counts; the decoder reports it.
func overlay(base, over *Node) *Node {
	if base == nil || over == nil || base.Kind != Map || over.Kind != Map {
		return over
	}
	merged := &Node{Kind: Map, Position: base.Position}
	index := make(map[string]int, len(base.Entries))
	for _, layer := range []*Node{base, over} {
		for _, entry := range layer.Entries {
			at, known := index[entry.Key]
			if !known {
				index[entry.Key] = len(merged.Entries)
				merged.Entries = append(merged.Entries, entry)
				continue
			}
			earlier := merged.Entries[at]
			earlier.Value = overlay(earlier.Value, entry.Value)
			if entry.Value.Kind != Map {
				earlier.KeyPosition = entry.KeyPosition
			}
			merged.Entries[at] = earlier
		}
	}
	return merged
}

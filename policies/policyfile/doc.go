// Package policyfile reads sets of policies from YAML and JSON files, with
// errors that point at the line and say what to write instead.
//
// [Load] reads a file and its drop-in folders into a snapshot that is ready
// for use; [Parse] reads one file's text. Both are strict, report everything
// that is wrong at once, and load nothing of what has a single error in it.
//
// # Drop-ins
//
// The files of a drop-in folder that end in .yaml, .yml or .json are laid
// over the main file in the order of their names, and a later folder's over
// an earlier one's. Sections are merged key by key: a drop-in may add
// upstreams, and change a single value of an upstream or of the defaults.
// Lists are replaced whole; so a drop-in that writes an upstream's match
// replaces all of it. A drop-in cannot take a key away; it can write
// disabled: true, or none. It may leave out the version. A folder that is not
// there and a drop-in of 0 bytes are errors: what they said would be gone, and
// nobody told. An empty folder, and a drop-in of comments alone, are none.
//
// # What YAML is read
//
// At most 16 MiB in all files, and in each 4,194,304 lines, brackets, commas,
// quotes and the like: twice what 16,384 upstreams have that say everything.
//
// One document of mappings, lists and single values. Anchors, aliases, tags,
// merge keys and directives are refused: what upstreams share is written in
// defaults, and a host that begins with * in quotes.
package policyfile

import _ "embed"

// Schema is a JSON Schema (draft 2020-12) of the file, for editors.
//
//go:embed schema.json
var Schema []byte

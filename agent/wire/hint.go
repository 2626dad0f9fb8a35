package wire

import (
	"bytes"
	"strconv"
)

// Hints are the messages that stand between a permit that is given back and
// the caller who waits for it. They are JSON as all others, in one form that
// is written and read without the work of it; any other form is read as JSON.
const (
	hintType  = `{"type":"`
	hintIndex = `","indexes":[`
	hintEnd   = "]}\n"
)

// SendHint is Send for a message about one cell.
func (c *Conn) SendHint(t Type, cell int) error {
	line := append(make([]byte, 0, 64), hintType...)
	line = append(append(line, t...), hintIndex...)
	return c.SendLine(append(strconv.AppendInt(line, int64(cell), 10), hintEnd...))
}

// parseHint reads a line that SendHint wrote; nil: it is another.
func parseHint(line []byte) *Message {
	rest, ok := bytes.CutPrefix(line, []byte(hintType))
	if !ok {
		return nil
	}
	name, rest, ok := bytes.Cut(rest, []byte(hintIndex))
	if !ok {
		return nil
	}
	var t Type
	switch string(name) {
	case string(Want):
		t = Want
	case string(Free):
		t = Free
	case string(Wake):
		t = Wake
	case string(Dirty):
		t = Dirty
	default:
		return nil
	}
	digits, ok := bytes.CutSuffix(rest, []byte(hintEnd))
	if !ok || len(digits) == 0 || len(digits) > 4 || digits[0] == '0' && len(digits) > 1 {
		return nil
	}
	cell := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return nil
		}
		cell = 10*cell + int(d-'0')
	}
	return &Message{Type: t, Indexes: []int{cell}}
}

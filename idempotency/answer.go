package idempotency

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
)

// Answer is a stored response.
type Answer struct {
	Status  int         `json:"status"`
	Header  http.Header `json:"header,omitempty"`
	Trailer http.Header `json:"trailer,omitempty"`
	Body    []byte      `json:"-"`
	// TooLarge says that the body was beyond Options.MaxResponse and is not
	// kept: the request was carried out, its answer cannot be given again.
	TooLarge bool `json:"too_large,omitempty"`
}

// answerForm is the first byte of a stored answer.
const answerForm = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errAnswer is for bytes that are no answer.
var errAnswer = errors.New("idempotency: a stored answer is damaged")

// MarshalBinary gives the form in which stores keep an answer: a byte for the
// form, a checksum, the length of the head, the head as JSON, the body.
func (a *Answer) MarshalBinary() ([]byte, error) {
	plain := *a
	plain.Header, plain.Trailer = each(a.Header, widen), each(a.Trailer, widen)
	head, err := json.Marshal(&plain)
	if err != nil {
		return nil, fmt.Errorf("idempotency: an answer cannot be written: %w", err)
	}
	data := make([]byte, 9, 9+len(head)+len(a.Body))
	data[0] = answerForm
	binary.BigEndian.PutUint32(data[5:], uint32(len(head)))
	data = append(append(data, head...), a.Body...)
	binary.BigEndian.PutUint32(data[1:], crc32.Checksum(data[5:], castagnoli))
	return data, nil
}

// UnmarshalBinary reads what MarshalBinary wrote, and copies it. It fails on
// anything else.
func (a *Answer) UnmarshalBinary(data []byte) error {
	if len(data) < 9 || data[0] != answerForm || binary.BigEndian.Uint32(data[1:]) != crc32.Checksum(data[5:], castagnoli) {
		return errAnswer
	}
	n := binary.BigEndian.Uint32(data[5:])
	rest := data[9:]
	if uint64(n) > uint64(len(rest)) {
		return errAnswer
	}
	var read Answer
	if err := json.Unmarshal(rest[:n], &read); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	if read.Status < 200 || read.Status > 999 {
		return fmt.Errorf("%w: status %d", errAnswer, read.Status)
	}
	read.Header, read.Trailer = each(read.Header, narrow), each(read.Trailer, narrow)
	read.Body = append([]byte(nil), rest[n:]...)
	*a = read
	return nil
}

// each gives a copy of a header with its values changed; nil stays nil.
func each(h http.Header, change func(string) string) http.Header {
	if h == nil {
		return nil
	}
	changed := make(http.Header, len(h))
	for name, values := range h {
		changed[name] = make([]string, len(values))
		for i, value := range values {
			changed[name][i] = change(value)
		}
	}
	return changed
}

// widen makes each byte a character, since JSON has no bytes and a field's
// value need not be UTF-8. ASCII stays as it is.
func widen(s string) string {
	var wide strings.Builder
	for i := range len(s) {
		wide.WriteRune(rune(s[i]))
	}
	return wide.String()
}

// narrow undoes widen.
func narrow(s string) string {
	narrow := make([]byte, 0, len(s))
	for _, r := range s {
		narrow = append(narrow, byte(r))
	}
	return string(narrow)
}

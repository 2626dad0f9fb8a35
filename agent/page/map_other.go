//go:build !linux

package page

import "os"

// New is for Linux only.
func New() (*Page, *os.File, error) { return nil, nil, ErrUnsupported }

// MapControl is for Linux only.
func MapControl(f *os.File) (*Control, error) { return nil, ErrUnsupported }

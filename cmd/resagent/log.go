package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// newLogger writes in the format and from the level that the flags name.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: new(slog.LevelVar)}
	if err := o.Level.(*slog.LevelVar).UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q is not known: write debug, info, warn or error", level)}
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
		// The journal has its own time.
		if os.Getenv("JOURNAL_STREAM") != "" {
			o.ReplaceAttr = withoutTime
		}
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q is not known: write text or json", format)}
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

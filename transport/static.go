package transport

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/resagent/resagent/policies"
)

// staticMark says what came before a fixed answer (RFC 9211).
func staticMark(attempted bool, status int) string {
	switch {
	case status != 0:
		return fmt.Sprintf("resagent; fwd=miss; fwd-status=%d; detail=static", status)
	case attempted:
		return "resagent; fwd=miss; detail=static"
	}
	return "resagent; detail=static"
}

// answers says whether calls of a method get the fixed answer.
func answers(p *policies.Static, method string) bool {
	if method == "" {
		method = http.MethodGet
	}
	return slices.Contains(p.Methods, method)
}

// static makes a fixed answer, with its Cache-Status.
func static(p *policies.Static, req *http.Request, mark string) *http.Response {
	h := http.Header{}
	for k, v := range p.Headers {
		h.Set(k, v)
	}
	if p.ContentType != "" {
		h.Set("Content-Type", p.ContentType)
	}
	h.Set("Cache-Status", mark)
	code := p.Status
	if code == 0 {
		code = http.StatusOK
	}
	resp := &http.Response{
		Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), StatusCode: code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody, ContentLength: int64(len(p.Body)), Request: req,
	}
	if code != http.StatusNoContent && code != http.StatusNotModified {
		h.Set("Content-Length", fmt.Sprint(len(p.Body)))
		if req.Method != http.MethodHead && p.Body != "" {
			resp.Body = io.NopCloser(strings.NewReader(p.Body))
		}
	}
	return resp
}

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/resagent/resagent/fallbackcache"
)

// cacheFill is a program with a cache, for the scripts: cachefill DIR VERB URL
// [AUTHORIZATION]... It keeps an answer, or finds one.
func cacheFill() {
	cache := &fallbackcache.Cache{Dir: os.Args[1]}
	for _, step := range os.Args[2:] {
		words := strings.Fields(step)
		req, err := http.NewRequest("GET", words[1], nil)
		if err != nil {
			panic(err)
		}
		if len(words) > 2 {
			req.Header.Set("Authorization", words[2])
		}
		switch words[0] {
		case "keep":
			resp := cache.Keep(req, &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
				Header: http.Header{"Cache-Control": {"max-age=60"}, "X-Evil": {"\x1b[2J"}}, Body: io.NopCloser(strings.NewReader("body")), ContentLength: 4}, time.Now())
			if _, err := io.ReadAll(resp.Body); err != nil {
				panic(err)
			}
		case "find":
			_, ok := cache.Find(req, time.Hour, time.Now())
			fmt.Println(words[1], ok)
		case "purge": // as another process would, while this one has it in memory
			folder, err := fallbackcache.OpenFolder(os.Args[1])
			if err != nil {
				panic(err)
			}
			if _, err := folder.Purge(nil); err != nil {
				panic(err)
			}
		}
	}
	if s := cache.Stats(); s.DiskError != nil {
		panic(s.DiskError)
	}
}

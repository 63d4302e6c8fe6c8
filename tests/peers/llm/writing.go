package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// exchange is one request with the ways to answer it.
type exchange struct {
	request
	reply
	writer http.ResponseWriter
	zipped bool
}

// serving decodes a request for an endpoint; one that cannot be decoded gets a 400 in OpenAI's shape.
func (o options) serving(endpoint func(*exchange) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{writer: w, zipped: o.gzip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")}
		err := json.NewDecoder(r.Body).Decode(&x.request)
		if err == nil {
			err = endpoint(x)
		}
		if err != nil {
			x.whole(http.StatusBadRequest, map[string]any{
				"error": map[string]any{"message": err.Error(), "type": "invalid_request_error", "param": nil, "code": nil},
			})
		}
	}
}

// encoded leaves <, > and & as they are, as the servers of the real APIs do.
func encoded(value any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // all values are of this program's own types
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
}

// whole answers in one piece.
func (x *exchange) whole(status int, value any) {
	body := encoded(value)
	header := x.writer.Header()
	header.Set("Content-Type", "application/json")
	if x.zipped {
		var buffer bytes.Buffer
		zip := gzip.NewWriter(&buffer)
		zip.Write(body)
		zip.Close()
		body = buffer.Bytes()
		header.Set("Content-Encoding", "gzip")
		header.Set("Vary", "Accept-Encoding")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.writer.WriteHeader(status)
	x.writer.Write(body)
}

// begin opens a stream; every write after it is flushed, so that it is a chunk, or a DATA frame, of its own.
func (x *exchange) begin(contentType string) func(format string, values ...any) {
	header := x.writer.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-cache")
	flusher := x.writer.(http.Flusher)
	return func(format string, values ...any) {
		for i, value := range values {
			if _, isText := value.(string); !isText {
				values[i] = encoded(value)
			}
		}
		fmt.Fprintf(x.writer, format, values...)
		flusher.Flush()
	}
}

const (
	eventStream = "text/event-stream; charset=utf-8"
	jsonLines   = "application/x-ndjson"
)

func (r request) streams(byDefault bool) bool {
	if r.Stream == nil {
		return byDefault
	}
	return *r.Stream
}

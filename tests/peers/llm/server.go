// Command llmpeer is an LLM-like server on loopback: the APIs of OpenAI, Anthropic and Ollama over HTTP/1.1 and HTTP/2.
//
// No model: every answer follows from its request (answer.go), so a test knows beforehand each byte that
// passes.  Standard library only.  The first line on standard output is the port; standard error has one
// line per request, written before its answer: protocol, path, the client's address.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

type options struct {
	cert  string
	key   string
	plain bool
	http2 bool
	gzip  bool
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.cert, "cert", "", "server certificate `file` (PEM)")
	flag.StringVar(&o.key, "key", "", "server key `file` (PEM)")
	flag.BoolVar(&o.plain, "plain", false, "serve HTTP without TLS (and without HTTP/2)")
	flag.BoolVar(&o.http2, "http2", true, "offer HTTP/2 by ALPN")
	flag.BoolVar(&o.gzip, "gzip", false, "compress answers that are not streamed, for clients that accept it")
	flag.Parse()
	if flag.NArg() > 0 || o.plain == (o.cert != "") || (o.cert == "") != (o.key == "") {
		fmt.Fprintln(os.Stderr, "llmpeer: either -plain, or -cert and -key, and nothing but flags")
		os.Exit(2)
	}
	if err := serve(o); err != nil {
		log.Fatal(err)
	}
}

// serve runs until the listener fails or a signal ends the process.
func serve(o options) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.http2)
	server := &http.Server{Handler: told(routes(o)), Protocols: protocols}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if o.plain {
		return server.Serve(listener)
	}
	return server.ServeTLS(listener, o.cert, o.key)
}

func routes(o options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", o.serving(openaiChat))
	mux.HandleFunc("POST /v1/embeddings", o.serving(openaiEmbeddings))
	mux.HandleFunc("POST /v1/messages", o.serving(anthropicMessages))
	mux.HandleFunc("POST /api/chat", o.serving(ollamaChat))
	return mux
}

func told(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s %s", r.Proto, r.URL.Path, r.RemoteAddr)
		next.ServeHTTP(w, r)
	})
}

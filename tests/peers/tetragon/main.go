// Command tetragonpeer is a real Tetragon gRPC API peer for integration tests and benchmarks.
//
// It serves Tetragon's own generated service (github.com/cilium/tetragon/api) over grpc-go, the same
// stack as the daemon, from recorded events; an HTTP control port decides what happens and when.
// `print` is the other end: what Tetragon's own CLI does with the stream, as a yardstick for clients.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"
)

const usage = "usage: tetragonpeer serve|print [flags]   (-h after either lists its flags)"

// fileList is a flag that may be given more than once.
type fileList []string

func (l *fileList) String() string     { return strings.Join(*l, ",") }
func (l *fileList) Set(v string) error { *l = append(*l, v); return nil }

// serveOptions are the flags of `serve`.
type serveOptions struct {
	listen        string
	control       string
	events        fileList
	cert          string
	key           string
	clientCA      string
	queue         int
	compress      string
	premarshal    bool
	headerPadding int
	maxAge        time.Duration
	maxAgeGrace   time.Duration
}

// printOptions are the flags of `print`.
type printOptions struct {
	connect string
	number  int
	json    bool
	out     string
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	log.SetPrefix("tetragonpeer: ")
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(parseServe(os.Args[2:]))
	case "print":
		err = printEvents(parsePrint(os.Args[2:]))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func parseServe(args []string) serveOptions {
	var o serveOptions
	f := flag.NewFlagSet("serve", flag.ExitOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "gRPC address: `unix:///abs/path.sock or host:port`")
	f.StringVar(&o.control, "ctl", "127.0.0.1:0", "HTTP control `host:port`")
	f.Var(&o.events, "events", "`file` of GetEventsResponse JSON lines (may be repeated)")
	f.StringVar(&o.cert, "tls-cert", "", "server certificate `file` (PEM); read again for every handshake")
	f.StringVar(&o.key, "tls-key", "", "server key `file` (PEM)")
	f.StringVar(&o.clientCA, "client-ca", "", "CA `file` (PEM); if given, clients must present a certificate")
	f.IntVar(&o.queue, "queue", 10000, "events a stream's queue holds (the daemon's --event-queue-size)")
	f.StringVar(&o.compress, "compress", "", "send compressor: `gzip`")
	f.BoolVar(&o.premarshal, "premarshal", false, "marshal each event once, at start")
	f.IntVar(&o.headerPadding, "header-padding", 0, "`bytes` of metadata added to the response headers of GetEvents")
	f.DurationVar(&o.maxAge, "max-connection-age", 0, "send GOAWAY to a connection of this age (grpc-go varies it by 10 %)")
	f.DurationVar(&o.maxAgeGrace, "max-connection-age-grace", time.Second, "close it this long after the GOAWAY")
	f.Parse(args)
	if err := o.check(f.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "tetragonpeer serve:", err)
		os.Exit(2)
	}
	return o
}

// check refuses combinations that would silently do something else than asked.
func (o serveOptions) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.queue < 1:
		return errors.New("-queue must be at least 1")
	case o.compress != "" && o.compress != "gzip":
		return fmt.Errorf("-compress %q: only gzip is built in", o.compress)
	case (o.cert == "") != (o.key == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case o.clientCA != "" && o.cert == "":
		return errors.New("-client-ca needs -tls-cert")
	case o.cert != "" && strings.HasPrefix(o.listen, unixScheme):
		return errors.New("TLS is for TCP only, as in Tetragon")
	}
	return nil
}

func parsePrint(args []string) printOptions {
	var o printOptions
	f := flag.NewFlagSet("print", flag.ExitOnError)
	f.StringVar(&o.connect, "connect", "", "gRPC address: `unix:///abs/path.sock or host:port`")
	f.IntVar(&o.number, "n", 0, "stop after this many events (0: when the server ends the stream)")
	f.BoolVar(&o.json, "json", true, "write each event as a line of JSON; without it, only receive and unmarshal")
	f.StringVar(&o.out, "out", os.DevNull, "`file` the lines go to")
	f.Parse(args)
	if o.connect == "" || f.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "tetragonpeer print: -connect is required, and nothing but flags")
		os.Exit(2)
	}
	return o
}

package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor
	"google.golang.org/grpc/keepalive"
)

// ready is the line on standard output that says where the peer listens.
type ready struct {
	Ready  bool   `json:"ready"`
	PID    int    `json:"pid"`
	Listen string `json:"listen"`
	Ctl    string `json:"ctl"`
	Events int    `json:"events"`
	Bad    int    `json:"bad"`
}

// serve runs until a signal ends the process or a listener fails.
func serve(o serveOptions) error {
	events, bad, err := loadEvents(o.events, o.premarshal)
	if err != nil {
		return err
	}
	p := newPeer(o, events)
	server, err := newServer(p)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", o.control)
	if err != nil {
		return err
	}
	l, err := listen(o.listen)
	if err != nil {
		return err
	}
	exitOnSignal(l)
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(l) }()
	go func() { failed <- http.Serve(control, newControl(p, l)) }()
	line, err := json.Marshal(ready{true, os.Getpid(), l.name, control.Addr().String(), len(events), bad})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	err = <-failed
	l.removeFile()
	return err
}

func newServer(p *peer) (*grpc.Server, error) {
	o := p.options
	settings := []grpc.ServerOption{
		grpc.UnaryInterceptor(p.countUnary),
		grpc.StreamInterceptor(p.countStream),
		grpc.UnknownServiceHandler(unknownMethod),
	}
	if o.cert != "" {
		config, err := tlsConfig(o)
		if err != nil {
			return nil, err
		}
		settings = append(settings, grpc.Creds(credentials.NewTLS(config)))
	}
	if o.premarshal {
		settings = append(settings, grpc.ForceServerCodecV2(newCodec()))
	}
	if o.maxAge > 0 {
		settings = append(settings, grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: o.maxAge, MaxConnectionAgeGrace: o.maxAgeGrace,
		}))
	}
	server := grpc.NewServer(settings...)
	tetragon.RegisterFineGuidanceSensorsServer(server, p)
	return server, nil
}

// exitOnSignal ends the process at once, in the middle of whatever it does: to its clients the peer
// looks like a daemon that was killed, but the socket file is gone.
func exitOnSignal(l *listener) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		log.Printf("%v", <-signals)
		l.removeFile()
		os.Exit(0)
	}()
}

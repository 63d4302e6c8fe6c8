// Command hubble is Cilium's own Hubble observer, parser and ring buffer on loopback, fed with made-up
// packets and L7 records: the real peer of our integration tests.  README.md says how to drive it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/cilium/cilium/pkg/hubble/build"
	nodetypes "github.com/cilium/cilium/pkg/node/types"
	"github.com/cilium/cilium/pkg/option"
)

// ready is the one line on stdout.
type ready struct {
	Ready  bool   `json:"ready"`
	PID    int    `json:"pid"`
	Listen string `json:"listen"`
	Ctl    string `json:"ctl"`
	Relay  string `json:"relay"`
	Ring   uint64 `json:"ring"`
}

func main() {
	s, err := settingsFrom(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hubble:", err)
		os.Exit(1)
	}
}

// nameVersion tells Hubble the version of the module it was built from.  Cilium's own build sets it by
// linker flags; without it ServerStatus says "cilium" and nothing else.
func nameVersion() {
	info, found := debug.ReadBuildInfo()
	if !found {
		return
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/cilium/cilium" {
			version := strings.TrimPrefix(module.Version, "v")
			build.ServerVersion.Core, build.RelayVersion.Core = version, version
		}
	}
}

// run serves until SIGTERM or SIGINT, and then ends without waiting for anybody.
func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: s.log}))
	// Cilium keeps these two in globals; labels and node_name are made from them.
	option.Config.ClusterName = s.cluster
	nodetypes.SetName(s.node)
	nameVersion()

	p, err := newPeer(ctx, s, log)
	if err != nil {
		return err
	}
	defer p.connections.Listener.Close() // removes a unix socket
	ctl, err := net.Listen("tcp", s.ctl)
	if err != nil {
		return fmt.Errorf("-ctl: %w", err)
	}
	failed := make(chan error, 3)
	go func() { failed <- p.server.Serve() }()
	go func() { failed <- http.Serve(ctl, control{p}.handler()) }()
	var front string
	if s.relay != "" {
		if front, err = p.relayBefore(failed); err != nil {
			return err
		}
	}
	line := ready{true, os.Getpid(), p.listen, ctl.Addr().String(), front, p.observer.GetRingBuffer().Cap()}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

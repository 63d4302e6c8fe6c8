package main

import (
	"errors"
	"flag"
	"log/slog"
	"net"
	"strings"
)

// settings are the command line.
type settings struct {
	listen, ctl, relay     string
	ring, queue            int
	node, cluster, peers   string
	tlsCert, tlsKey, tlsCA string
	log                    slog.Level
}

func settingsFrom(arguments []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("hubble", flag.ContinueOnError)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:0", "observer address, host:port or unix:///path")
	flags.StringVar(&s.ctl, "ctl", "127.0.0.1:0", "HTTP control address")
	flags.StringVar(&s.relay, "relay", "", "run a real Hubble Relay in front, on this host:port")
	flags.IntVar(&s.ring, "ring", 4095, "ring capacity, 2^k-1 with k of 1 to 16")
	flags.IntVar(&s.queue, "queue", 1024, "events between monitor and parser (hubble-event-queue-size)")
	flags.StringVar(&s.node, "node", "node-a", "name of this node")
	flags.StringVar(&s.cluster, "cluster", "default", "name of the cluster; in node_name unless it is default")
	flags.StringVar(&s.peers, "peers", "", "further nodes for the relay, name=ip,name=ip, with the same port")
	flags.StringVar(&s.tlsCert, "tls-cert", "", "server certificate; turns TLS on")
	flags.StringVar(&s.tlsKey, "tls-key", "", "its key")
	flags.StringVar(&s.tlsCA, "tls-ca", "", "CA of the clients; turns mutual TLS on")
	flags.TextVar(&s.log, "log", slog.LevelInfo, "log level")
	if err := flags.Parse(arguments); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, errors.New("there are no arguments, only flags")
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return s, errors.New("-tls-cert and -tls-key go together")
	case s.tlsCA != "" && s.tlsCert == "":
		return s, errors.New("-tls-ca needs -tls-cert")
	case s.relay != "" && (s.tlsCert != "" || s.isUnix()):
		// The relay dials nodes by IP, and would need a client certificate of its own.
		return s, errors.New("-relay needs an observer on plain TCP")
	}
	return s, nil
}

func (s settings) isUnix() bool { return strings.HasPrefix(s.listen, "unix://") }

// freePort replaces port 0 of a TCP address by one that is free now, for servers that open their
// listener themselves and do not tell the port.
func freePort(address string) (string, error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port != "0" {
		return address, err
	}
	reserved, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	defer reserved.Close()
	return reserved.Addr().String(), nil
}

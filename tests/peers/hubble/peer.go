package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/pkg/crypto/certloader"
	datapath "github.com/cilium/cilium/pkg/datapath/types"
	"github.com/cilium/cilium/pkg/hubble/container"
	"github.com/cilium/cilium/pkg/hubble/observer"
	"github.com/cilium/cilium/pkg/hubble/observer/observeroption"
	peerservice "github.com/cilium/cilium/pkg/hubble/peer"
	"github.com/cilium/cilium/pkg/hubble/peer/serviceoption"
	relay "github.com/cilium/cilium/pkg/hubble/relay/server"
	"github.com/cilium/cilium/pkg/hubble/server"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
	"github.com/cilium/cilium/pkg/node/addressing"
	nodetypes "github.com/cilium/cilium/pkg/node/types"
)

// peer is the whole of it: what the Hubble cell of a Cilium agent puts together, plus our feeder.
type peer struct {
	settings    settings
	log         *slog.Logger
	names       *nameCache
	observer    *observer.LocalObserverServer
	feeder      *feeder
	streams     *streams
	connections *connections
	server      *server.Server
	tls         *certloader.WatchedServerConfig // nil: plaintext
	listen      string                          // the address in use, with its port
	seenFlows   atomic.Uint64
}

func newPeer(ctx context.Context, s settings, log *slog.Logger) (*peer, error) {
	p := &peer{settings: s, log: log, names: newNameCache(), streams: newStreams(), connections: &connections{}}
	if err := p.observe(ctx); err != nil {
		return nil, err
	}
	p.feeder = newFeeder(p.observer)
	return p, p.open()
}

// observe starts parser, queue and ring.
func (p *peer) observe(ctx context.Context) error {
	parser, err := newParser(p.log, p.names)
	if err != nil {
		return err
	}
	capacity, err := container.NewCapacity(p.settings.ring)
	if err != nil {
		return fmt.Errorf("-ring: %w", err)
	}
	namespaces := observer.NewNamespaceManager()
	go namespaces.Run(ctx)
	// Counted here and not taken from ServerStatus, which reads back through the ring for its rate and
	// may count a lost event in hubble_lost_events_total while doing so.
	countFlow := func(context.Context, *flowpb.Flow) (bool, error) {
		p.seenFlows.Add(1)
		return false, nil
	}
	p.observer, err = observer.NewLocalServer(parser, namespaces, p.log,
		observeroption.WithMaxFlows(capacity), observeroption.WithMonitorBuffer(p.settings.queue),
		observeroption.WithOnDecodedFlowFunc(countFlow))
	if err != nil {
		return err
	}
	go p.observer.Start()
	return nil
}

// open makes the gRPC server, listening but not yet serving.
func (p *peer) open() error {
	options := []serveroption.Option{
		p.listener(),
		wrapListener(p.connections),
		serveroption.WithHealthService(),
		serveroption.WithObserverService(p.observer),
		serveroption.WithGRPCUnaryInterceptor(p.streams.unary),
		serveroption.WithGRPCStreamInterceptor(p.streams.stream),
		// Runs after the listener is open, since the other nodes are said to use the same port.
		func(options *serveroption.Options) error {
			host, port := p.bound()
			peerOptions := []serviceoption.Option{serviceoption.WithHubblePort(port)}
			if p.settings.tlsCert == "" {
				peerOptions = append(peerOptions, serviceoption.WithoutTLSInfo())
			}
			options.PeerService = peerservice.NewService(p.nodes(host), peerOptions...)
			return nil
		},
	}
	security, err := p.security()
	if err != nil {
		return err
	}
	p.server, err = server.NewServer(p.log, append(options, security)...)
	return err
}

func (p *peer) listener() serveroption.Option {
	if p.settings.isUnix() {
		return serveroption.WithUnixSocketListener(p.log, p.settings.listen)
	}
	return serveroption.WithTCPListener(p.settings.listen)
}

func (p *peer) security() (serveroption.Option, error) {
	s := p.settings
	if s.tlsCert == "" {
		return serveroption.WithInsecure(), nil
	}
	var authorities []string
	if s.tlsCA != "" {
		authorities = []string{s.tlsCA}
	}
	var err error
	if p.tls, err = certloader.NewWatchedServerConfig(p.log, authorities, s.tlsCert, s.tlsKey); err != nil {
		return nil, fmt.Errorf("-tls-cert: %w", err)
	}
	return serveroption.WithServerTLS(p.tls), nil
}

// bound notes the address in use and gives host and port, loopback and 0 for a unix socket.
func (p *peer) bound() (string, int) {
	if p.settings.isUnix() {
		p.listen = p.settings.listen
		return "127.0.0.1", 0
	}
	address := p.connections.Addr().(*net.TCPAddr)
	p.listen = address.String()
	return address.IP.String(), address.Port
}

// nodes are this node and the ones of -peers, as the relay learns them from the peer service.
func (p *peer) nodes(host string) notifier {
	node := func(name, ip string) nodetypes.Node {
		return nodetypes.Node{Name: name, Cluster: p.settings.cluster, IPAddresses: []nodetypes.Address{
			{Type: addressing.NodeInternalIP, IP: net.ParseIP(ip)},
		}}
	}
	nodes := notifier{node(p.settings.node, host)}
	for _, pair := range strings.FieldsFunc(p.settings.peers, func(r rune) bool { return r == ',' }) {
		name, ip, _ := strings.Cut(pair, "=")
		nodes = append(nodes, node(name, ip))
	}
	return nodes
}

// notifier stands in for the node manager behind the peer service.
type notifier []nodetypes.Node

// Subscribe implements manager.Notifier.
func (n notifier) Subscribe(handler datapath.NodeHandler) {
	for _, node := range n {
		_ = handler.NodeAdd(node) // the peer service's handler never fails
	}
}

// Unsubscribe implements manager.Notifier.
func (notifier) Unsubscribe(datapath.NodeHandler) {}

// relayBefore runs a real relay in front of the observer and gives its address once it accepts.
func (p *peer) relayBefore(failed chan<- error) (string, error) {
	address, err := freePort(p.settings.relay)
	if err != nil {
		return "", fmt.Errorf("-relay: %w", err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("-relay: %w", err)
	}
	front, err := relay.New(
		relay.WithPeerTarget(p.listen), relay.WithListenAddress(address),
		relay.WithHealthListenAddress(net.JoinHostPort(host, strconv.Itoa(0))),
		relay.WithLocalClusterName(p.settings.cluster), relay.WithLogger(p.log),
		relay.WithRetryTimeout(2*time.Second), // 30 s is a long time in a test
		relay.WithInsecureServer(), relay.WithInsecureClient())
	if err != nil {
		return "", err
	}
	go func() { failed <- front.Serve() }()
	for range 100 {
		if reached, err := net.Dial("tcp", address); err == nil {
			return address, reached.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", fmt.Errorf("the relay does not accept on %s", address)
}

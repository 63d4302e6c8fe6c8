package main

import (
	"context"
	"encoding/json"
	"log"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// version is what GetVersion answers; the suffix keeps it apart from a daemon's.
const version = "v1.8.0-peer"

const servicePrefix = "/tetragon.FineGuidanceSensors/"

// totals are the counters of /stats, over all streams that ever were. For one stream,
// emitted = undeliverable + overflowed + filtered + sent + queued + left.
type totals struct {
	opened, emitted, sent, overflowed, undeliverable, filtered, left atomic.Int64
}

// peer is the service and all its state.
type peer struct {
	tetragon.UnimplementedFineGuidanceSensorsServer
	options serveOptions
	events  []*event
	cursor  atomic.Int64 // the next event to emit
	streams registry
	paused  atomic.Pointer[pause]
	totals  totals

	mu          sync.Mutex // guards what follows
	calls       map[string]int64
	lastRequest json.RawMessage
	policies    []*tetragon.TracingPolicyStatus
	counters    map[string]uint64
}

func newPeer(options serveOptions, events []*event) *peer {
	p := &peer{options: options, events: events, calls: map[string]int64{}, counters: map[string]uint64{}}
	p.paused.Store(newPause(false))
	return p
}

// GetEvents queues what is emitted from now on and sends it until the client goes or a control call
// ends the stream. Filters act behind the queue, as in the daemon.
func (p *peer) GetEvents(request *tetragon.GetEventsRequest, call tetragon.FineGuidanceSensors_GetEventsServer) error {
	p.remember(request)
	if err := p.prepare(call); err != nil {
		return err
	}
	warnIgnored(request)
	s := newStream(p.options.queue)
	p.streams.add(s)
	p.totals.opened.Add(1)
	err := p.send(s, newChoice(request), call)
	p.totals.left.Add(s.end())
	p.streams.remove(s) // last: a stream that is gone from /stats has been counted
	return err
}

// prepare sets what must be set before the first message.
func (p *peer) prepare(call tetragon.FineGuidanceSensors_GetEventsServer) error {
	if name := p.options.compress; name != "" {
		if err := grpc.SetSendCompressor(call.Context(), name); err != nil {
			log.Printf("sending uncompressed: %v", err) // the client does not accept it
		}
	}
	if size := p.options.headerPadding; size > 0 {
		// HPACK has no shorter code for X than X, so that many bytes really are sent.
		if err := call.SendHeader(metadata.Pairs("x-padding", strings.Repeat("X", size))); err != nil {
			log.Printf("header padding: %v", err) // more than the client's SETTINGS allow
			return err
		}
	}
	return nil
}

// send is the stream's sender.
func (p *peer) send(s *stream, wanted choice, call tetragon.FineGuidanceSensors_GetEventsServer) error {
	ctx := call.Context()
	for {
		select {
		case err := <-s.kill:
			return err
		default:
		}
		now, queue, state := p.paused.Load(), s.queue, idle
		if now.on {
			queue, state = nil, parked // a nil channel never delivers
		}
		s.state.Store(state)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.kill:
			return err
		case <-now.over:
			s.state.Store(busy)
		case one := <-queue:
			s.state.Store(busy)
			if !wanted.matches(one.event.kind) {
				p.totals.filtered.Add(1)
			} else if err := call.SendMsg(one.sendable()); err != nil {
				return err
			} else {
				p.totals.sent.Add(1)
			}
			s.pending.Add(-1) // after the count: with nothing queued, everything is counted
		}
	}
}

func (p *peer) remember(request *tetragon.GetEventsRequest) {
	text, err := (protojson.MarshalOptions{UseProtoNames: true}).Marshal(request)
	if err != nil {
		log.Printf("request: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastRequest = text
}

// GetHealth answers what the daemon always answers.
func (p *peer) GetHealth(context.Context, *tetragon.GetHealthStatusRequest) (*tetragon.GetHealthStatusResponse, error) {
	return &tetragon.GetHealthStatusResponse{HealthStatus: []*tetragon.HealthStatus{{
		Event:   tetragon.HealthStatusType_HEALTH_STATUS_TYPE_STATUS,
		Status:  tetragon.HealthStatusResult_HEALTH_STATUS_RUNNING,
		Details: "running",
	}}}, nil
}

// GetVersion names this peer.
func (p *peer) GetVersion(context.Context, *tetragon.GetVersionRequest) (*tetragon.GetVersionResponse, error) {
	return &tetragon.GetVersionResponse{Version: version}, nil
}

// ListTracingPolicies answers what POST /policies has set.
func (p *peer) ListTracingPolicies(context.Context, *tetragon.ListTracingPoliciesRequest) (*tetragon.ListTracingPoliciesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &tetragon.ListTracingPoliciesResponse{Policies: p.policies}, nil
}

// count notes a call, also one of a method or service that is not there.
func (p *peer) count(method string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[strings.TrimPrefix(method, servicePrefix)]++
}

func (p *peer) countUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	p.count(info.FullMethod)
	return next(ctx, request)
}

func (p *peer) countStream(service any, call grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	p.count(info.FullMethod)
	return next(service, call)
}

// choice is the part of a request's filters that is honoured: event_set.
type choice struct{ allow, deny []*tetragon.Filter }

// newChoice leaves out deny filters that have only ignored fields: without them they would deny all.
func newChoice(request *tetragon.GetEventsRequest) choice {
	c := choice{allow: request.GetAllowList()}
	for _, filter := range request.GetDenyList() {
		if len(filter.GetEventSet()) > 0 || !otherFields(filter) {
			c.deny = append(c.deny, filter)
		}
	}
	return c
}

// matches applies the lists: deny wins, and no allow filter at all allows everything.
func (c choice) matches(kind tetragon.EventType) bool {
	return !anyMatches(c.deny, kind) && (len(c.allow) == 0 || anyMatches(c.allow, kind))
}

func anyMatches(filters []*tetragon.Filter, kind tetragon.EventType) bool {
	for _, filter := range filters {
		if len(filter.GetEventSet()) == 0 {
			return true
		}
		for _, one := range filter.GetEventSet() {
			if one == kind {
				return true
			}
		}
	}
	return false
}

// otherFields says whether a filter asks for more than this peer honours.
func otherFields(filter *tetragon.Filter) bool {
	return !proto.Equal(filter, &tetragon.Filter{EventSet: filter.GetEventSet()})
}

func warnIgnored(request *tetragon.GetEventsRequest) {
	for _, filter := range append(append([]*tetragon.Filter{}, request.GetAllowList()...), request.GetDenyList()...) {
		if otherFields(filter) {
			log.Printf("filter fields other than event_set are ignored: %v", filter)
		}
	}
}

// unknownMethod answers for services and methods this version of the API lacks; it is there so that the
// interceptor counts them, too.
func unknownMethod(_ any, call grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(call)
	return status.Errorf(codes.Unimplemented, "unknown method %s", method)
}

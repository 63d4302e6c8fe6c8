package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/pkg/hubble/build"
	"github.com/cilium/cilium/pkg/hubble/defaults"
)

// streams sits in the gRPC server's interceptors: it counts calls, and can hold up or end GetFlows.
type streams struct {
	mutex  sync.Mutex
	calls  map[string]uint64
	open   map[*flowStream]struct{}
	opened uint64
	asked  json.RawMessage // the last GetFlowsRequest, without its mask
	mask   []string        // the last mask's paths
	gate   chan struct{}   // nil: responses pass; else they wait until it is closed
	header metadata.MD     // the server's version, sent with every answer

	sent, sentLost, sentLostSum atomic.Uint64
}

func newStreams() *streams {
	return &streams{
		calls: map[string]uint64{}, open: map[*flowStream]struct{}{}, asked: json.RawMessage("null"),
		// As the agent does; Cilium does not export its interceptor.
		header: metadata.Pairs(defaults.GRPCMetadataServerVersionKey, build.ServerVersion.SemVer()),
	}
}

func (s *streams) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	s.count(info.FullMethod)
	answer, err := handler(ctx, request)
	if headerErr := grpc.SetHeader(ctx, s.header); err == nil {
		err = headerErr
	}
	return answer, err
}

func (s *streams) stream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	s.count(info.FullMethod)
	if err := stream.SetHeader(s.header); err != nil {
		return err
	}
	if info.FullMethod != observerpb.Observer_GetFlows_FullMethodName {
		return handler(service, stream)
	}
	ctx, end := context.WithCancelCause(stream.Context())
	watched := &flowStream{ServerStream: stream, streams: s, ctx: ctx, end: end}
	s.enter(watched)
	defer s.leave(watched)

	// The handler may hang in a send that waits for the client's window.  To end the call all the same
	// it runs beside us; gRPC closes the stream when we return, which ends its send.
	finished := make(chan error, 1)
	go func() { finished <- handler(service, watched) }()
	var err error
	select {
	case err = <-finished:
	case <-ctx.Done():
	}
	var wanted *wantedEnd
	if errors.As(context.Cause(ctx), &wanted) {
		return wanted.status.Err()
	}
	return err // without one when the client went: nobody is left to read it
}

func (s *streams) count(method string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.calls[method]++
}

func (s *streams) enter(stream *flowStream) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.opened++
	s.open[stream] = struct{}{}
}

func (s *streams) leave(stream *flowStream) {
	stream.end(nil)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.open, stream)
}

// endAll ends every open GetFlows with the status and gives how many there were.
func (s *streams) endAll(with *status.Status) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for stream := range s.open {
		stream.end(&wantedEnd{with})
	}
	return len(s.open)
}

// stall holds up (or lets go on) every response of every GetFlows, also of later ones.
func (s *streams) stall(on bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case on && s.gate == nil:
		s.gate = make(chan struct{})
	case !on && s.gate != nil:
		close(s.gate)
		s.gate = nil
	}
}

func (s *streams) currentGate() chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.gate
}

// streamCounts is the part of /stats that is known here.
type streamCounts struct {
	Streams     uint64            `json:"streams"`
	StreamsOpen int               `json:"streams_open"`
	Calls       map[string]uint64 `json:"calls"`
	LastRequest json.RawMessage   `json:"last_request"`
	LastMask    []string          `json:"last_mask"`
	Stalled     bool              `json:"stalled"`
	Sent        uint64            `json:"sent"`
	SentLost    uint64            `json:"sent_lost"`
	SentLostSum uint64            `json:"sent_lost_sum"`
}

func (s *streams) counts() streamCounts {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return streamCounts{
		Streams: s.opened, StreamsOpen: len(s.open), Calls: maps.Clone(s.calls), LastRequest: s.asked, LastMask: s.mask,
		Stalled: s.gate != nil,
		Sent:    s.sent.Load(), SentLost: s.sentLost.Load(), SentLostSum: s.sentLostSum.Load(),
	}
}

// wantedEnd is why a stream's context ends when /disconnect asks for it.
type wantedEnd struct{ status *status.Status }

func (e *wantedEnd) Error() string { return "ended on request: " + e.status.Code().String() }

// flowStream is one GetFlows, with a context we can end.
type flowStream struct {
	grpc.ServerStream
	streams *streams
	ctx     context.Context
	end     context.CancelCauseFunc
}

// Context implements grpc.ServerStream.
func (f *flowStream) Context() context.Context { return f.ctx }

// RecvMsg implements grpc.ServerStream; it keeps the request.
func (f *flowStream) RecvMsg(message any) error {
	err := f.ServerStream.RecvMsg(message)
	if request, ok := message.(*observerpb.GetFlowsRequest); ok && err == nil {
		// JSON has no form for a mask with upper case in it, such as the path "IP": it is told beside.
		shown := proto.Clone(request).(*observerpb.GetFlowsRequest)
		shown.FieldMask = nil
		text, marshalErr := protojson.MarshalOptions{UseProtoNames: true}.Marshal(shown)
		if marshalErr != nil {
			return marshalErr
		}
		f.streams.mutex.Lock()
		f.streams.asked = text
		f.streams.mask = request.GetFieldMask().GetPaths()
		f.streams.mutex.Unlock()
	}
	return err
}

// SendMsg implements grpc.ServerStream; it waits while stalled and counts what gRPC took.
func (f *flowStream) SendMsg(message any) error {
	if gate := f.streams.currentGate(); gate != nil {
		select {
		case <-gate:
		case <-f.ctx.Done():
			return status.FromContextError(f.ctx.Err()).Err()
		}
	}
	if err := f.ServerStream.SendMsg(message); err != nil {
		return err
	}
	f.streams.sent.Add(1)
	if response, ok := message.(*observerpb.GetFlowsResponse); ok && response.GetLostEvents() != nil {
		f.streams.sentLost.Add(1)
		f.streams.sentLostSum.Add(response.GetLostEvents().GetNumEventsLost())
	}
	return nil
}

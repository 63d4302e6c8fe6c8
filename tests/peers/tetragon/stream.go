package main

import (
	"context"
	"sync"
	"sync/atomic"
)

// What became of an event offered to a stream.
type outcome int

const (
	taken outcome = iota // it is in the queue
	full                 // dropped: no room, or none before the caller gave up waiting
	gone                 // the stream had ended
)

// What a stream's sender is doing; /stall waits until none is idle, so that afterwards no event leaves
// a queue.
const (
	busy   int32 = iota // starting, or an event is in its hands
	idle                // waiting for an event
	parked              // stalled
)

// stream is one GetEvents call: a bounded queue, as each client of the daemon has one.
type stream struct {
	queue   chan item
	done    chan struct{} // closed when the stream ends
	kill    chan error    // a status to end with; room for one
	pending atomic.Int64  // events in the queue and in the sender's hands
	state   atomic.Int32
	gate    sync.RWMutex // held for reading by offers, so that none comes after the count of what is left
}

func newStream(size int) *stream {
	return &stream{queue: make(chan item, size), done: make(chan struct{}), kill: make(chan error, 1)}
}

// offer puts an event on the queue. Without wait a full queue drops it.
func (s *stream) offer(ctx context.Context, i item, wait bool) outcome {
	s.gate.RLock()
	defer s.gate.RUnlock()
	select {
	case <-s.done:
		return gone
	default:
	}
	s.pending.Add(1)
	select {
	case s.queue <- i:
		return taken
	default:
	}
	result := full
	if wait {
		select {
		case s.queue <- i:
			return taken
		case <-s.done:
			result = gone
		case <-ctx.Done():
		}
	}
	s.pending.Add(-1)
	return result
}

// end closes the stream to offers and says how many events it never sent.
func (s *stream) end() int64 {
	close(s.done) // first, or an offer that waits for room would hold the gate for ever
	s.gate.Lock()
	defer s.gate.Unlock()
	return s.pending.Swap(0)
}

// registry is the set of open streams. Emitting reads it for every event, so readers take no lock.
type registry struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*stream]
}

func (r *registry) all() []*stream {
	if list := r.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (r *registry) add(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := append(append([]*stream{}, r.all()...), s)
	r.list.Store(&list)
}

func (r *registry) remove(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []*stream{}
	for _, one := range r.all() {
		if one != s {
			list = append(list, one)
		}
	}
	r.list.Store(&list)
}

// pause tells senders whether to send. It is never changed, only replaced: `over` is closed then.
type pause struct {
	on   bool
	over chan struct{}
}

func newPause(on bool) *pause { return &pause{on: on, over: make(chan struct{})} }

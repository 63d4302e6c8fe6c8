package main

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/cilium/cilium/pkg/hubble/monitor"
	"github.com/cilium/cilium/pkg/hubble/observer"
	observertypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/monitor/agent/consumer"
	nodetypes "github.com/cilium/cilium/pkg/node/types"
)

// pause is how long the feeder sleeps when it is ahead of the wanted rate.
const pause = 500 * time.Microsecond

// feeder puts monitor events where the agent's monitor would.
type feeder struct {
	observer *observer.LocalObserverServer
	consumer consumer.MonitorConsumer
	sequence atomic.Uint64

	// Held for one fact: the agent, too, calls its consumers one at a time, and the events of a fact
	// stay together when two calls of /emit run side by side.
	mutex sync.Mutex
	fed   map[string]uint64 // monitor events by kind of fact
}

func newFeeder(obs *observer.LocalObserverServer) *feeder {
	return &feeder{observer: obs, consumer: monitor.NewConsumer(obs), fed: map[string]uint64{}}
}

// batch is what one call of feed does.
type batch struct {
	facts  uint64
	rate   float64 // facts per second, 0: as fast as possible
	direct bool
}

// feed makes the facts of the order and gives how many facts and events these were; fewer than asked
// for when ctx ends.
func (f *feeder) feed(ctx context.Context, o order, b batch) (facts, events uint64) {
	kinds := o.kinds()
	makers := make([]fact, len(kinds))
	for i, kind := range kinds {
		makers[i] = recipes[kind](o)
	}
	start := time.Now()
	for facts < b.facts && ctx.Err() == nil {
		if b.rate > 0 && float64(facts) >= time.Since(start).Seconds()*b.rate {
			time.Sleep(pause)
			continue
		}
		turn := facts % uint64(len(kinds))
		events += f.tell(kinds[turn], makers[turn](f.sequence.Add(1)), b.direct)
		facts++
	}
	return facts, events
}

func (f *feeder) tell(kind string, payloads []any, direct bool) uint64 {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, payload := range payloads {
		if direct {
			f.send(payload)
		} else {
			f.notify(payload)
		}
	}
	f.fed[kind] += uint64(len(payloads))
	return uint64(len(payloads))
}

// send waits for room in the observer's channel: nothing is lost before the ring.
func (f *feeder) send(payload any) {
	f.observer.GetEventsChannel() <- &observertypes.MonitorEvent{
		UUID: uuid.New(), Timestamp: time.Now(), NodeName: nodetypes.GetAbsoluteNodeName(), Payload: payload,
	}
}

// notify goes through the agent's own consumer, which drops what finds the channel full, counts it and
// reports it later as a LostEvent of OBSERVER_EVENTS_QUEUE.
func (f *feeder) notify(payload any) {
	switch event := payload.(type) {
	case *observertypes.PerfEvent:
		f.consumer.NotifyPerfEvent(event.Data, event.CPU)
	case *observertypes.AgentEvent:
		f.consumer.NotifyAgentEvent(event.Type, event.Message)
	case *observertypes.LostEvent:
		f.consumer.NotifyPerfEventLost(event.NumLostEvents, event.CPU)
	}
}

// counts gives the monitor events fed, by kind of fact and altogether.
func (f *feeder) counts() (map[string]uint64, uint64) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var total uint64
	for _, events := range f.fed {
		total += events
	}
	return maps.Clone(f.fed), total
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// tick is how finely a rate is kept: more sleeps than this cost CPU that the client under test needs.
const tick = time.Millisecond

// emission is one POST /emit.
type emission struct {
	number int64
	rate   float64 // events a second; 0 is as fast as possible
	retime bool
	block  bool
}

// emit offers events to every open stream and answers when the last one is queued or dropped. It stops
// early if its caller hangs up.
func (c *control) emit(r *http.Request, query url.Values) (any, error) {
	e, err := c.parseEmission(query)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	done := c.run(r.Context(), e)
	return struct {
		Emitted int64   `json:"emitted"`
		Seconds float64 `json:"seconds"`
	}{done, time.Since(begin).Seconds()}, nil
}

// parseEmission reads the parameters; `start` moves the cursor all emissions share.
func (c *control) parseEmission(query url.Values) (e emission, err error) {
	if len(c.events) == 0 {
		return e, errors.New("no events were loaded")
	}
	e.number = 1
	if query.Has("n") {
		if e.number, err = strconv.ParseInt(query.Get("n"), 10, 64); err != nil || e.number < 0 {
			return e, fmt.Errorf("n: %q is no count", query.Get("n"))
		}
	}
	if query.Has("rate") {
		if e.rate, err = strconv.ParseFloat(query.Get("rate"), 64); err != nil || !(e.rate >= 0) {
			return e, fmt.Errorf("rate: %q is no rate", query.Get("rate"))
		}
	}
	if e.retime, err = flagged(query, "retime"); err != nil {
		return e, err
	}
	if e.block, err = flagged(query, "block"); err != nil {
		return e, err
	}
	if query.Has("start") {
		start, err := strconv.ParseInt(query.Get("start"), 10, 64)
		if err != nil || start < 0 {
			return e, fmt.Errorf("start: %q is no index", query.Get("start"))
		}
		c.cursor.Store(start)
	}
	return e, nil
}

// run offers the events and says how many it offered.
func (p *peer) run(ctx context.Context, e emission) int64 {
	begin := time.Now()
	for i := range e.number {
		if ctx.Err() != nil {
			return i
		}
		if e.rate > 0 {
			keepRate(ctx, begin, i, e.rate)
		}
		index := (p.cursor.Add(1) - 1) % int64(len(p.events))
		one := item{event: p.events[index]}
		if e.retime {
			one.stamp = time.Now().UnixNano()
		}
		p.totals.emitted.Add(1)
		p.offer(ctx, one, e.block)
	}
	return e.number
}

// keepRate sleeps if event i is not due yet. It oversleeps to the next tick, and the events that have
// become due by then follow at once, so the mean rate is exact.
func keepRate(ctx context.Context, begin time.Time, i int64, rate float64) {
	due := time.Duration(float64(i) / rate * float64(time.Second))
	early := due - time.Since(begin)
	if early <= 0 {
		return
	}
	timer := time.NewTimer(max(early, tick))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// offer gives one event to every stream and counts what became of it.
func (p *peer) offer(ctx context.Context, one item, block bool) {
	reached := false
	for _, s := range p.streams.all() {
		switch s.offer(ctx, one, block) {
		case taken:
			reached = true
		case full:
			reached = true
			p.totals.overflowed.Add(1)
		case gone:
		}
	}
	if !reached {
		p.totals.undeliverable.Add(1)
	}
}

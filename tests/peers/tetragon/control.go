package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// patience is how long a control call waits for senders to take notice; one that sits in a Send, because
// its client does not read, is not waited for any longer.
const patience = time.Second

// control is the HTTP side: one handler a path, JSON in every answer.
type control struct {
	*peer
	listener *listener
}

// answer is a handler's result: something to marshal, or an error the caller made.
type answer func(*http.Request, url.Values) (any, error)

func newControl(p *peer, l *listener) http.Handler {
	c := &control{p, l}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]answer{
		"POST /emit":       c.emit,
		"GET /stats":       c.stats,
		"POST /stall":      c.stall,
		"POST /disconnect": c.disconnect,
		"POST /policies":   c.setPolicies,
		"DELETE /policies": c.clearPolicies,
		"POST /counter":    c.setCounter,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			result, err := handle(r, r.URL.Query())
			if err != nil {
				reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
				return
			}
			reply(w, http.StatusOK, result)
		})
	}
	mux.HandleFunc("GET /metrics", c.metrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusNotFound, map[string]string{"error": "no such call: " + r.Method + " " + r.URL.Path})
	})
	return mux
}

func reply(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		code, text = http.StatusInternalServerError, fmt.Appendf(nil, `{"error":%q}`, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(text, '\n'))
}

// flagged reads a 0/1 parameter.
func flagged(query url.Values, name string) (bool, error) {
	if !query.Has(name) {
		return false, nil
	}
	value, err := strconv.ParseBool(query.Get(name))
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// stats is what there is to count.
func (c *control) stats(*http.Request, url.Values) (any, error) {
	streams := c.streams.all()
	queued := int64(0)
	for _, s := range streams {
		queued += s.pending.Load()
	}
	t := &c.totals
	c.mu.Lock()
	defer c.mu.Unlock()
	return struct {
		Streams       int              `json:"streams"`
		Opened        int64            `json:"opened"`
		Emitted       int64            `json:"emitted"`
		Queued        int64            `json:"queued"`
		Sent          int64            `json:"sent"`
		Overflowed    int64            `json:"overflowed"`
		Undeliverable int64            `json:"undeliverable"`
		Filtered      int64            `json:"filtered"`
		Left          int64            `json:"left"`
		Calls         map[string]int64 `json:"calls"`
		LastRequest   json.RawMessage  `json:"last_request"`
		Policies      int              `json:"policies"`
	}{
		len(streams), t.opened.Load(), t.emitted.Load(), queued, t.sent.Load(), t.overflowed.Load(),
		t.undeliverable.Load(), t.filtered.Load(), t.left.Load(), maps.Clone(c.calls), c.lastRequest, len(c.policies),
	}, nil
}

// stall stops or restarts all senders, also those of streams still to come. When it answers, no sender
// takes from its queue any more, so a queue then holds exactly what it is sized for.
func (c *control) stall(_ *http.Request, query url.Values) (any, error) {
	on, err := flagged(query, "on")
	if err != nil {
		return nil, err
	}
	if !query.Has("on") {
		return nil, fmt.Errorf("on: 0 or 1 is required")
	}
	close(c.paused.Swap(newPause(on)).over)
	waitUntil(func() bool {
		for _, s := range c.streams.all() {
			if on && s.state.Load() == idle {
				return false
			}
		}
		return true
	})
	return map[string]bool{"stalled": on}, nil
}

// disconnect ends all streams with a status, or cuts the connections.
func (c *control) disconnect(_ *http.Request, query url.Values) (any, error) {
	name := query.Get("code")
	if name == "transport" {
		streams := c.streams.all()
		connections := c.listener.cut()
		return map[string]int{"connections": connections, "streams": len(streams), "ended": ended(streams)}, nil
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
		return nil, fmt.Errorf("code: %w", err)
	}
	message := query.Get("message")
	if message == "" {
		message = "ended by control"
	}
	streams := c.streams.all()
	for _, s := range streams {
		select {
		case s.kill <- status.Error(code, message):
		default: // it has one to end with already
		}
	}
	return map[string]int{"streams": len(streams), "ended": ended(streams)}, nil
}

// ended waits for streams to end and says how many did.
func ended(streams []*stream) (n int) {
	waitUntil(func() bool {
		n = 0
		for _, s := range streams {
			select {
			case <-s.done:
				n++
			default:
			}
		}
		return n == len(streams)
	})
	return n
}

func waitUntil(true func() bool) {
	for end := time.Now().Add(patience); !true() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// setPolicies replaces the answer of ListTracingPolicies.
func (c *control) setPolicies(r *http.Request, _ url.Values) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	// A JSON array is the value of a repeated field, so the response message can parse it.
	whole := fmt.Appendf(nil, `{"policies":%s}`, body)
	parsed := new(tetragon.ListTracingPoliciesResponse)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(whole, parsed); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policies = parsed.GetPolicies()
	return map[string]int{"policies": len(c.policies)}, nil
}

func (c *control) clearPolicies(*http.Request, url.Values) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policies = nil
	return map[string]int{"policies": 0}, nil
}

// overflowMetric is the one metric that is counted, not set.
const overflowMetric = "tetragon_notify_overflowed_events_total"

// lossMetrics are the daemon's other counters of loss: name, and labels if it has any.
var lossMetrics = [][2]string{
	{"tetragon_observer_ringbuf_events_lost_total", ""},
	{"tetragon_observer_ringbuf_queue_events_lost_total", ""},
	{"tetragon_bpf_missed_events_total", `{error="ENOSPC",msg_op="23"}`},
}

func (c *control) setCounter(_ *http.Request, query url.Values) (any, error) {
	name := query.Get("name")
	value, err := strconv.ParseUint(query.Get("value"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	for _, metric := range lossMetrics {
		if metric[0] == name {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.counters[name] = value
			return map[string]uint64{name: value}, nil
		}
	}
	return nil, fmt.Errorf("name: no counter %q to set", name)
}

// metrics is the daemon's metrics endpoint, as far as it tells of loss.
func (c *control) metrics(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	fmt.Fprintf(w, "# TYPE %s counter\n%[1]s %d\n", overflowMetric, c.totals.overflowed.Load())
	for _, metric := range lossMetrics {
		fmt.Fprintf(w, "# TYPE %s counter\n%[1]s%s %d\n", metric[0], metric[1], c.counters[metric[0]])
	}
}

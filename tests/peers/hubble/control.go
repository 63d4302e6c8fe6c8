package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cilium/cilium/pkg/hubble/metrics"
)

// control is the HTTP side: what a test tells the peer, and what it asks of it.
type control struct{ peer *peer }

func (c control) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.LostEvents) // hubble_lost_events_total{source=}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /emit", c.emit)
	mux.HandleFunc("GET /stats", c.stats)
	mux.HandleFunc("POST /disconnect", c.disconnect)
	mux.HandleFunc("POST /stall", c.stall)
	mux.HandleFunc("POST /reload", c.reload)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func (c control) emit(w http.ResponseWriter, r *http.Request) {
	o, b, err := c.emission(r)
	if err != nil {
		refuse(w, err)
		return
	}
	start := time.Now()
	facts, events := c.peer.feeder.feed(r.Context(), o, b)
	answer(w, map[string]any{"facts": facts, "events": events, "seconds": time.Since(start).Seconds()})
}

func (c control) emission(r *http.Request) (order, batch, error) {
	if err := r.ParseForm(); err != nil {
		return order{}, batch{}, err
	}
	o, err := orderFrom(r.Form, c.peer.names)
	if err != nil {
		return o, batch{}, err
	}
	b := batch{facts: 1, direct: isOn(r.Form, "direct")}
	if text := r.Form.Get("n"); text != "" {
		if b.facts, err = strconv.ParseUint(text, 10, 64); err != nil {
			return o, b, fmt.Errorf("n: %w", err)
		}
	}
	if text := r.Form.Get("rate"); text != "" {
		if b.rate, err = strconv.ParseFloat(text, 64); err != nil {
			return o, b, fmt.Errorf("rate: %w", err)
		}
	}
	return o, b, nil
}

// stats is the answer of /stats.
type stats struct {
	Fed         map[string]uint64 `json:"fed"`
	FedTotal    uint64            `json:"fed_total"`
	Queued      int               `json:"queued"`
	RingLen     uint64            `json:"ring_len"`
	RingCap     uint64            `json:"ring_cap"`
	LastWrite   int64             `json:"last_write"` // -1: nothing written yet
	SeenFlows   uint64            `json:"seen_flows"`
	Connections int               `json:"connections"`
	streamCounts
}

func (c control) stats(w http.ResponseWriter, _ *http.Request) {
	fed, total := c.peer.feeder.counts()
	ring := c.peer.observer.GetRingBuffer()
	answer(w, stats{
		Fed: fed, FedTotal: total, Queued: len(c.peer.observer.GetEventsChannel()),
		RingLen: ring.Len(), RingCap: ring.Cap(), LastWrite: int64(ring.LastWrite()),
		SeenFlows: c.peer.seenFlows.Load(), Connections: c.peer.connections.count(),
		streamCounts: c.peer.streams.counts(),
	})
}

func (c control) disconnect(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("code")
	if name == "transport" {
		answer(w, map[string]any{"connections": c.peer.connections.cut()})
		return
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
		refuse(w, fmt.Errorf("code %q: must be transport or the name of a gRPC status, such as UNAVAILABLE", name))
		return
	}
	answer(w, map[string]any{"streams": c.peer.streams.endAll(status.New(code, "ended by the test"))})
}

func (c control) stall(w http.ResponseWriter, r *http.Request) {
	if value := r.FormValue("on"); value != "0" && value != "1" {
		refuse(w, errors.New("on: must be 0 or 1"))
		return
	}
	on := isOn(r.Form, "on")
	c.peer.streams.stall(on)
	answer(w, map[string]any{"stalled": on})
}

// reload reads the TLS files now; Cilium looks at them every 5 s.
func (c control) reload(w http.ResponseWriter, _ *http.Request) {
	if c.peer.tls == nil {
		refuse(w, errors.New("there is no TLS to reload"))
		return
	}
	_, err := c.peer.tls.ReloadKeypair()
	if err == nil && c.peer.tls.HasCustomCA() {
		_, err = c.peer.tls.ReloadCA()
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, map[string]any{"reloaded": true})
}

func isOn(form url.Values, name string) bool { return form.Get(name) == "1" }

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // fails only when the asker has gone
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

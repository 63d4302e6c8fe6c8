package main

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observertypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	monitorapi "github.com/cilium/cilium/pkg/monitor/api"
)

// A fact is one thing that happened on the node; it is told to Hubble in one or more monitor events.

// order is what one call of /emit asks for.
type order struct {
	kind   string
	from   pod        // who opens the connection; always a pod of this node
	world  netip.Addr // the address outside, or the DNS answer
	query  string
	ttl    uint32
	target *url.URL
	token  string
	lost   uint64
	names  *nameCache // learns what DNS facts say; nil: nothing is learnt
}

// fact gives the payloads of the monitor events of one fact.  The sequence number is never used twice.
type fact func(sequence uint64) []any

// recipes make facts of one kind.  Packets are built here, once, and not for every fact.
var recipes = map[string]func(order) fact{
	"trace": func(o order) fact {
		seen := trace(monitorapi.TraceToLxc, litellm.id, o.from, litellm.at(litellmPort))
		return func(sequence uint64) []any { return []any{seen.withPort(sourcePort(sequence))} }
	},
	"synworld": func(o order) fact {
		target := world(o.world.String(), httpsPort)
		allowed := verdict(0, monitorapi.PolicyEgress, monitorapi.PolicyMatchL3L4, o.from, target)
		seen := trace(monitorapi.TraceToStack, o.from.id, o.from, target)
		return func(sequence uint64) []any {
			port := sourcePort(sequence)
			return []any{allowed.withPort(port), seen.withPort(port)}
		}
	},
	"verdict": func(o order) fact {
		allowed := verdict(0, monitorapi.PolicyIngress, monitorapi.PolicyMatchL4Only, o.from, vllm.at(vllmPort))
		return func(sequence uint64) []any { return []any{allowed.withPort(sourcePort(sequence))} }
	},
	"denied": func(o order) fact {
		const reason = flowpb.DropReason_POLICY_DENIED
		target := world(o.world.String(), httpsPort)
		refused := verdict(-int32(reason), monitorapi.PolicyEgress, monitorapi.PolicyMatchNone, o.from, target)
		dropped := drop(reason, o.from, target)
		return func(sequence uint64) []any {
			port := sourcePort(sequence)
			return []any{refused.withPort(port), dropped.withPort(port)}
		}
	},
	"http": func(o order) fact {
		return func(sequence uint64) []any {
			return httpPair(o.from, sourcePort(sequence), o.target, o.token, sequence)
		}
	},
	"dns": func(o order) fact {
		return func(sequence uint64) []any {
			if o.names != nil {
				o.names.learn(o.from.id, o.world, o.query)
			}
			return dnsPair(o.from, sourcePort(sequence), o.query, o.world, o.ttl)
		}
	},
	"agent": func(order) fact {
		return func(sequence uint64) []any {
			return []any{&observertypes.AgentEvent{
				Type:    monitorapi.MessageTypeAgent,
				Message: monitorapi.PolicyUpdateMessage(1, []string{"k8s:app=vllm"}, sequence),
			}}
		}
	},
	"lost": func(o order) fact {
		return func(uint64) []any {
			return []any{&observertypes.LostEvent{
				Source: observertypes.LostEventSourcePerfRingBuffer, NumLostEvents: o.lost, CPU: 1,
			}}
		}
	},
}

// mixed are the kinds of "mix", in its order.
var mixed = []string{"trace", "synworld", "verdict", "denied", "http", "dns", "agent", "lost"}

// sourcePort is unprivileged and comes again only after 64 512 facts.
func sourcePort(sequence uint64) uint16 { return uint16(1024 + sequence%(65536-1024)) }

// kinds are the ones to make in turn for the order.
func (o order) kinds() []string {
	if o.kind == "mix" {
		return mixed
	}
	return []string{o.kind}
}

// orderFrom reads the form of /emit.
func orderFrom(form url.Values, names *nameCache) (order, error) {
	field := func(name, fallback string) string {
		if value := form.Get(name); value != "" {
			return value
		}
		return fallback
	}
	o := order{kind: field("kind", "trace"), query: field("name", "api.openai.com."), token: form.Get("token")}
	if _, known := recipes[o.kind]; !known && o.kind != "mix" {
		return o, fmt.Errorf("kind %q: must be mix or one of %v", o.kind, slices.Sorted(maps.Keys(recipes)))
	}
	var err error
	if o.from, err = podNamed(field("from", "apps/notebook-0")); err != nil {
		return o, fmt.Errorf("from: %w", err)
	}
	if !o.from.local {
		return o, fmt.Errorf("from: %s is not on this node", o.from.name)
	}
	if o.world, err = netip.ParseAddr(field("address", "162.159.140.245")); err != nil {
		return o, fmt.Errorf("address: %w", err)
	}
	if o.world.Is6() && o.kind != "dns" {
		return o, fmt.Errorf("address: %s: packets here are IPv4 only", o.world)
	}
	ttl, err := strconv.ParseUint(field("ttl", "300"), 10, 32)
	if err != nil {
		return o, fmt.Errorf("ttl: %w", err)
	}
	o.ttl = uint32(ttl)
	if o.lost, err = strconv.ParseUint(field("count", "42"), 10, 64); err != nil {
		return o, fmt.Errorf("count: %w", err)
	}
	if o.target, err = url.Parse(field("url", "http://vllm.models:8000/v1/chat/completions")); err != nil {
		return o, fmt.Errorf("url: %w", err)
	}
	if field("cache", "1") != "0" {
		o.names = names
	}
	return o, nil
}

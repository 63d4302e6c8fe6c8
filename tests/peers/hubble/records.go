package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/gopacket/gopacket/layers"

	observertypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/labels"
	monitorapi "github.com/cilium/cilium/pkg/monitor/api"
	"github.com/cilium/cilium/pkg/proxy/accesslog"
	"github.com/cilium/cilium/pkg/u8proto"
)

// latency is what a response is later than its request; the parser gives it as l7.latency_ns when both
// carry the same X-Request-Id, so for HTTP only.
const latency = 12 * time.Millisecond

// Records are what Envoy and the DNS proxy tell the agent about one request and its response.

func endpointInfo(p pod, port uint16) accesslog.EndpointInfo {
	return accesslog.EndpointInfo{
		ID: uint64(p.id), IPv4: p.ip, Port: port, Identity: uint64(p.identity),
		Labels: labels.ParseLabelArray(p.labels()...),
	}
}

// request is the part every record has; response turns it round.
func request(protocol u8proto.U8proto, at accesslog.ObservationPoint,
	source, destination accesslog.EndpointInfo) accesslog.LogRecord {
	return accesslog.LogRecord{
		Type: accesslog.TypeRequest, Timestamp: time.Now().UTC().Format(time.RFC3339Nano),
		ObservationPoint: at, IPVersion: accesslog.VersionIPv4,
		TransportProtocol: accesslog.TransportProtocol(protocol), Verdict: accesslog.VerdictForwarded,
		SourceEndpoint: source, DestinationEndpoint: destination,
	}
}

func response(asked accesslog.LogRecord) accesslog.LogRecord {
	answer := asked
	answer.Type = accesslog.TypeResponse
	answer.Timestamp = time.Now().Add(latency).UTC().Format(time.RFC3339Nano)
	answer.SourceEndpoint, answer.DestinationEndpoint = asked.DestinationEndpoint, asked.SourceEndpoint
	return answer
}

// httpPair is one call to the model server as its ingress proxy logs it: the request's headers in the
// request, the response's and the request id in the response.  Without a token there is no
// Authorization header.
func httpPair(source pod, port uint16, target *url.URL, token string, sequence uint64) []any {
	id := fmt.Sprintf("00000000-0000-4000-8000-%012x", sequence)
	asked := request(u8proto.TCP, accesslog.Ingress, endpointInfo(source, port), endpointInfo(vllm, vllmPort))
	headers := http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/json"},
		"User-Agent":   {"OpenAI/Python 1.50.0"},
		"X-Request-Id": {id},
	}
	if token != "" {
		headers.Set("Authorization", "Bearer "+token)
	}
	asked.HTTP = &accesslog.LogRecordHTTP{
		Method: http.MethodPost, URL: target, Protocol: "HTTP/1.1", Headers: headers,
	}
	answer := response(asked)
	answer.HTTP = &accesslog.LogRecordHTTP{
		Code: http.StatusOK, Method: http.MethodPost, URL: target, Protocol: "HTTP/1.1",
		Headers: http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {id}},
	}
	return []any{accessLog(asked), accessLog(answer)}
}

// dnsPair is one look-up through the agent's DNS proxy, A or AAAA as the address says.
func dnsPair(source pod, port uint16, name string, address netip.Addr, ttl uint32) []any {
	kind := uint16(layers.DNSTypeA)
	if address.Is6() {
		kind = uint16(layers.DNSTypeAAAA)
	}
	asked := request(u8proto.UDP, accesslog.Egress, endpointInfo(source, port), endpointInfo(coredns, dnsPort))
	asked.DNS = &accesslog.LogRecordDNS{
		Query: name, QTypes: []uint16{kind}, ObservationSource: accesslog.DNSSourceProxy,
	}
	answer := response(asked)
	answer.DNS = &accesslog.LogRecordDNS{
		Query: name, QTypes: []uint16{kind}, ObservationSource: accesslog.DNSSourceProxy,
		IPs: []netip.Addr{address}, TTL: ttl, AnswerTypes: []uint16{kind},
	}
	return []any{accessLog(asked), accessLog(answer)}
}

func accessLog(record accesslog.LogRecord) *observertypes.AgentEvent {
	return &observertypes.AgentEvent{Type: monitorapi.MessageTypeAccessLog, Message: record}
}

package main

import (
	"encoding/binary"
	"net"

	"github.com/gopacket/gopacket/layers"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observertypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/hubble/testutils"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/monitor"
	monitorapi "github.com/cilium/cilium/pkg/monitor/api"
	"github.com/cilium/cilium/pkg/u8proto"
)

const (
	tcpHeaderBytes = 20
	packetBytes    = 14 + 20 + tcpHeaderBytes // Ethernet, IPv4, TCP, no payload
	frameBytes     = 60                       // what gopacket fills an Ethernet frame up to

	// Anything the parser hands on as it is; no meaning beyond being set.
	interfaceIndex = 7
	bpfFile        = 2 // bpf_lxc.c
	bpfLine        = 1234
)

// packet is what the datapath writes to the perf ring: a notification header and the start of a packet,
// here always a TCP SYN.  Built once, then copied with another source port for every fact.
type packet []byte

// withPort gives the event of the same packet from another source port.
func (p packet) withPort(port uint16) *observertypes.PerfEvent {
	data := append([]byte(nil), p...)
	binary.BigEndian.PutUint16(data[len(data)-tcpHeaderBytes:], port)
	return &observertypes.PerfEvent{Data: data, CPU: int(port & 1)}
}

func syn(notification any, source, destination string, port uint16) packet {
	data := testutils.MustCreateL3L4Payload(notification,
		&layers.Ethernet{
			EthernetType: layers.EthernetTypeIPv4,
			SrcMAC:       net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		},
		&layers.IPv4{
			Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP,
			SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination),
		},
		&layers.TCP{DstPort: layers.TCPPort(port), SYN: true, Window: 64240})
	return data[:len(data)-(frameBytes-packetBytes)]
}

// trace is a packet seen at a point of the datapath, as the first of its connection.  With the source
// pod as the reporting endpoint the parser calls it egress, with the destination ingress.
func trace(point uint8, reporter uint16, source pod, target remote) packet {
	return syn(monitor.TraceNotify{
		Type: monitorapi.MessageTypeTrace, Version: monitor.TraceNotifyVersion1,
		OrigLen: packetBytes, CapLen: packetBytes,
		ObsPoint: point, Source: reporter, Reason: monitor.TraceReasonPolicy, Ifindex: interfaceIndex,
		SrcLabel: identity.NumericIdentity(source.identity), DstLabel: target.identity, DstID: target.id,
	}, source.ip, target.address, target.port)
}

// verdict is the decision on the first packet of a connection: 0 allows it, below 0 is the negative
// drop reason.  match says what part of a rule matched (monitorapi.PolicyMatch...).
func verdict(decision int32, direction, match uint8, source pod, target remote) packet {
	reporter, other := source.id, target.identity
	if direction == monitorapi.PolicyIngress {
		reporter, other = target.id, identity.NumericIdentity(source.identity)
	}
	return syn(monitor.PolicyVerdictNotify{
		Type: monitorapi.MessageTypePolicyVerdict, OrigLen: packetBytes, CapLen: packetBytes,
		Source: reporter, RemoteLabel: other, Verdict: decision,
		DstPort: target.port, Proto: uint8(u8proto.TCP),
		Flags: direction | match<<monitor.PolicyVerdictNotifyFlagMatchTypeBitOffset,
	}, source.ip, target.address, target.port)
}

// drop is the packet the datapath threw away, reported by the pod that sent it.
func drop(reason flowpb.DropReason, source pod, target remote) packet {
	return syn(monitor.DropNotify{
		Type: monitorapi.MessageTypeDrop, SubType: uint8(reason), Version: monitor.DropNotifyVersion2,
		OrigLen: packetBytes, CapLen: packetBytes, Source: source.id,
		SrcLabel: identity.NumericIdentity(source.identity), DstLabel: target.identity,
		File: bpfFile, Line: bpfLine, Ifindex: interfaceIndex,
	}, source.ip, target.address, target.port)
}

// remote is the other end of a packet.
type remote struct {
	address  string
	port     uint16
	id       uint16 // 0 outside of this node
	identity identity.NumericIdentity
}

func (p pod) at(port uint16) remote {
	return remote{p.ip, port, p.id, identity.NumericIdentity(p.identity)}
}

func world(address string, port uint16) remote {
	return remote{address, port, 0, identity.ReservedIdentityWorld}
}

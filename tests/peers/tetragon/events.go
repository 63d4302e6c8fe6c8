package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxLine is the longest JSON line accepted; recorded events stay under 100 kB.
const maxLine = 16 << 20

// timeField is the number of GetEventsResponse.time.
const timeField = 1001

// event is one recorded event, ready to be sent in either form.
type event struct {
	message *tetragon.GetEventsResponse
	kind    tetragon.EventType
	raw     []byte // the marshalled message; nil without -premarshal
}

// loadEvents reads files of JSON lines, or, where the name ends in .bin, of marshalled events with their
// length in four bytes (big endian) before each: those keep every field, also the ones that are newer
// than this version of the API. In JSON lines fields this version of the API does not know are dropped; a
// line that still does not parse is counted as bad. An event whose oneof member is unknown stays, with
// no member at all: that is what a client built from an older API sees, too.
func loadEvents(files []string, premarshal bool) (events []*event, bad int, err error) {
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, 0, err
		}
		if strings.HasSuffix(name, ".bin") {
			loaded, err := loadBinary(file, premarshal)
			file.Close()
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", name, err)
			}
			events = append(events, loaded...)
			continue
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, maxLine)
		for number := 1; lines.Scan(); number++ {
			if len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			one, err := parseEvent(lines.Bytes(), premarshal)
			if err != nil {
				log.Printf("%s:%d: %v", name, number, err)
				bad++
				continue
			}
			events = append(events, one)
		}
		file.Close()
		if err := lines.Err(); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	return events, bad, nil
}

func loadBinary(file io.Reader, premarshal bool) (events []*event, err error) {
	reader := bufio.NewReader(file)
	for {
		var size [4]byte
		if _, err := io.ReadFull(reader, size[:]); err == io.EOF {
			return events, nil
		} else if err != nil {
			return nil, err
		}
		length := binary.BigEndian.Uint32(size[:])
		if length > maxLine {
			return nil, fmt.Errorf("an event of %d bytes", length)
		}
		raw := make([]byte, length)
		if _, err := io.ReadFull(reader, raw); err != nil {
			return nil, err
		}
		message := new(tetragon.GetEventsResponse)
		if err := proto.Unmarshal(raw, message); err != nil {
			return nil, err
		}
		one := &event{message: message, kind: message.EventType()}
		if premarshal {
			one.raw = raw
		}
		events = append(events, one)
	}
}

func parseEvent(line []byte, premarshal bool) (*event, error) {
	message := new(tetragon.GetEventsResponse)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, message); err != nil {
		return nil, err
	}
	one := &event{message: message, kind: message.EventType()}
	if premarshal {
		raw, err := proto.Marshal(message)
		if err != nil {
			return nil, err
		}
		one.raw = raw
	}
	return one, nil
}

// item is an event on its way through a stream's queue.
type item struct {
	event *event
	stamp int64 // time to set, in Unix nanoseconds; 0 leaves the recorded one
}

// sendable is what SendMsg gets: bytes if there are any, else a message.
func (i item) sendable() any {
	if i.event.raw != nil {
		return &frame{body: i.event.raw, tail: timeTail(i.stamp)}
	}
	if i.stamp == 0 {
		return i.event.message
	}
	// A shallow copy: the members are shared between streams and never written.
	was := i.event.message
	return &tetragon.GetEventsResponse{
		Event:           was.Event,
		NodeName:        was.NodeName,
		Time:            timestamppb.New(time.Unix(0, i.stamp)),
		AggregationInfo: was.AggregationInfo,
		ClusterName:     was.ClusterName,
	}
}

// timeTail is a serialized `time` field to append to a marshalled event: parsers merge a message field
// that comes twice, last one wins per field. So both parts of the timestamp are written, and a zero
// nanosecond, which would be left out, becomes one.
func timeTail(stamp int64) []byte {
	if stamp == 0 {
		return nil
	}
	at := time.Unix(0, stamp)
	inner := protowire.AppendTag(make([]byte, 0, 16), 1, protowire.VarintType)
	inner = protowire.AppendVarint(inner, uint64(at.Unix()))
	inner = protowire.AppendTag(inner, 2, protowire.VarintType)
	inner = protowire.AppendVarint(inner, uint64(max(at.Nanosecond(), 1)))
	tail := protowire.AppendTag(make([]byte, 0, 24), timeField, protowire.BytesType)
	return protowire.AppendBytes(tail, inner)
}

// frame is an event already marshalled, plus what is appended to it.
type frame struct{ body, tail []byte }

// codec passes frames through as they are and leaves every other message to grpc-go's own codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	out := mem.BufferSlice{mem.SliceBuffer(f.body)}
	if f.tail != nil {
		out = append(out, mem.SliceBuffer(f.tail))
	}
	return out, nil
}

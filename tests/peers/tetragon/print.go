package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
)

// maxMessage is the receive limit of Tetragon's CLI.
const maxMessage = 10 << 20

// printEvents does what Tetragon's CLI does to print events, and says what that cost: time and CPU from
// the first event to the last. The line comes also if the stream ends early, with the error after it.
func printEvents(o printOptions) error {
	out, err := os.OpenFile(o.out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	connection, err := grpc.NewClient(o.connect,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithNoProxy(), // an environment's proxy has no business between two peers of a test
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	// The CLI always sends one empty filter, which matches everything.
	request := &tetragon.GetEventsRequest{AllowList: []*tetragon.Filter{{}}}
	call, err := tetragon.NewFineGuidanceSensorsClient(connection).GetEvents(context.Background(), request)
	if err != nil {
		return err
	}

	var begin time.Time
	var cpuBegin time.Duration
	count := 0
	var failure error
	for o.number == 0 || count < o.number {
		response, err := call.Recv()
		if err != nil {
			failure = err
			break
		}
		if count == 0 {
			begin, cpuBegin = time.Now(), cpuTime()
		}
		count++
		if !o.json {
			continue
		}
		if failure = printOne(out, response); failure != nil {
			break
		}
	}
	if count == 0 {
		begin, cpuBegin = time.Now(), cpuTime()
	}
	line, err := json.Marshal(struct {
		Events     int     `json:"events"`
		Seconds    float64 `json:"seconds"`
		CPUSeconds float64 `json:"cpu_seconds"`
	}{count, time.Since(begin).Seconds(), (cpuTime() - cpuBegin).Seconds()})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if errors.Is(failure, io.EOF) && o.number == 0 {
		return nil
	}
	return failure
}

// printOne writes an event as the CLI does: one write a line, no buffer.
func printOne(out io.Writer, response *tetragon.GetEventsResponse) error {
	text, err := (protojson.MarshalOptions{UseProtoNames: true}).Marshal(response)
	if err != nil {
		return err
	}
	_, err = out.Write(append(text, '\n'))
	return err
}

// cpuTime is the user and system time of this process, all threads.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

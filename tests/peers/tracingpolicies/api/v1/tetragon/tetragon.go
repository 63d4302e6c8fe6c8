// Package tetragon has the few names of Tetragon's API that its compiler of selectors asks for. The API of this version
// cannot be fetched as a module. Numbers are those of the protocol.
package tetragon

// EventType is the number of an event's kind.
type EventType int32

// Kinds of events.
const (
	EventType_UNDEF              EventType = 0
	EventType_PROCESS_EXEC       EventType = 1
	EventType_PROCESS_EXIT       EventType = 5
	EventType_PROCESS_KPROBE     EventType = 9
	EventType_PROCESS_TRACEPOINT EventType = 10
	EventType_PROCESS_LOADER     EventType = 11
	EventType_PROCESS_UPROBE     EventType = 12
	EventType_PROCESS_LSM        EventType = 28
	EventType_PROCESS_USDT       EventType = 29
	EventType_TEST               EventType = 40000
)

// EventType_name has the two kinds that are none: metrics are not served here, and these are taken off when the tables
// of metrics are made. Without capabilities one in a selector is refused as unknown, which is a failure and no silence.
var (
	EventType_name         = map[int32]string{int32(EventType_UNDEF): "UNDEF", int32(EventType_TEST): "TEST"}
	CapabilitiesType_value = map[string]int32{}
)

func (EventType) String() string { return "" }

// Namespace is one namespace of a process.
type Namespace struct {
	Inum   uint32
	IsHost bool
}

// Namespaces are all of them.
type Namespaces struct {
	Uts, Ipc, Mnt, Pid, PidForChildren, Net, Time, TimeForChildren, Cgroup, User *Namespace
}

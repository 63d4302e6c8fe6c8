// What all probes share: the head of a record, the ring, the counters, who is left out.
//
// No kernel structure is touched: arguments of tracepoints, registers and helpers only, so that any kernel headers will
// do.  Written at load time before this text: RING_PAGES, SELF, KINDS, SCOPED or not, the OFF_* of tracepoint fields
// and the FILTER_* of paths.
#include <uapi/linux/ptrace.h>

struct head {
    u64 time;    // CLOCK_BOOTTIME, ns
    u32 cpu;
    u32 tid;
    u32 kind;    // from here on: what folding compares
    u32 pid;
    u32 uid;
    u32 size;    // bytes of the payload
    u64 cgroup;
    u64 a;       // two numbers, meaning by kind
    u64 b;
    char comm[16];
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
// Slots: 2 * kind counts what was produced, 2 * kind + 1 what of it was dropped.
BPF_PERCPU_ARRAY(counters, u64, 2 * KINDS);
// Processes that were looked at and are of no interest; children inherit.
BPF_HASH(ignored, u32, u8, 65536);
// Processes whose plaintext may be read; children inherit.
BPF_HASH(content, u32, u8, 65536);

// Processes whose working directory makes relative paths worth a look, as user space found; children inherit.
BPF_HASH(stands_near, u32, u8, 65536);

static __always_inline void count(u32 slot) {
    u64 *value = counters.lookup(&slot);
    // Atomic: a probe may be preempted by another one on the same CPU.
    if (value) __sync_fetch_and_add(value, 1);
}

static __always_inline int is_left_out(u32 pid) {
    if (pid == SELF) return 1;
#ifdef SCOPED
    if (ignored.lookup(&pid)) return 1;
#endif
    return 0;
}

static __always_inline void fill(struct head *head, u32 kind) {
    u64 id = bpf_get_current_pid_tgid();
    head->time = bpf_ktime_get_boot_ns();
    head->cpu = bpf_get_smp_processor_id();
    head->tid = id;
    head->kind = kind;
    head->pid = id >> 32;
    head->uid = bpf_get_current_uid_gid();
    head->size = 0;
    head->cgroup = bpf_get_current_cgroup_id();
    head->a = 0;
    head->b = 0;
    bpf_get_current_comm(head->comm, sizeof(head->comm));
}

// A record without payload.
static __always_inline int plain(u32 kind, u64 a, u64 b) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    count(2 * kind);
    struct head *head = events.ringbuf_reserve(sizeof(struct head));
    if (!head) {
        count(2 * kind + 1);
        return 0;
    }
    fill(head, kind);
    head->a = a;
    head->b = b;
    events.ringbuf_submit(head, BPF_RB_NO_WAKEUP);
    return 0;
}

// The arguments of every syscalls:sys_enter_* and sys_exit_* tracepoint, on every architecture.
struct enter {
    u64 common;
    s64 number;
    u64 args[6];
};
struct leave {
    u64 common;
    s64 number;
    s64 ret;
};

#define TEXT_BYTES 256
struct text_record {
    struct head head;
    char text[TEXT_BYTES];
    char behind[8];      // so that eight bytes can be read from any place
};
BPF_PERCPU_ARRAY(text_scratch, struct text_record, 1);

// Hand on a record with `size` bytes of text.  Tracepoint programs only: they are not preempted, their scratch is safe.
static __always_inline int with_text(struct text_record *record, u32 kind, u64 a, u64 b, u32 size) {
    count(2 * kind);
    fill(&record->head, kind);
    record->head.a = a;
    record->head.b = b;
    if (size > TEXT_BYTES) size = TEXT_BYTES;
    record->head.size = size;
    u64 total = sizeof(struct head) + size;
    asm volatile("" : "+r"(total));
    if (total > sizeof(struct head) + TEXT_BYTES) total = sizeof(struct head) + TEXT_BYTES;
#ifdef WAKES
    // Where plaintext is read, a program that starts is heard of at once; all else waits for the reader's next turn.
    u64 flags = kind == EXEC ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
#else
    u64 flags = BPF_RB_NO_WAKEUP;
#endif
    if (events.ringbuf_output(record, total, flags)) count(2 * kind + 1);
    return 0;
}

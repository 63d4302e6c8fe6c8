// Plaintext of TLS connections: what goes into and comes out of OpenSSL, BoringSSL, GnuTLS and Go's crypto/tls.
//
// Only processes in `content` are read.  A call's bytes are told when it returns, since only then it is known how many
// went; each piece carries its place in the connection's stream, so that a reader knows what it missed.
// Pieces are reserved in three sizes and filled in the ring itself: a uprobe may be preempted, a scratch would be
// overwritten by the next one.

#define PIECE 16384

struct stream_key {
    u64 connection;
    u32 pid;
    u32 unused;
};
struct stream_state {
    u64 sent;
    u64 received;
};
struct call {
    u64 connection;
    u64 buffer;
    u64 moved;     // where the library writes how many bytes went, or 0 if the return value says it
};
struct piece_head {
    struct head head;    // a: connection, b: place of the first byte in its stream
    u32 is_received;
    u32 stack;           // 1 OpenSSL, 2 GnuTLS, 3 Go, 4 plain socket
    u32 total;           // bytes of the whole call
    u32 offset;          // of this piece in the call
};
struct piece_small { struct piece_head head; char data[512]; };
struct piece_middle { struct piece_head head; char data[4096]; };
struct piece_large { struct piece_head head; char data[PIECE]; };

BPF_TABLE("lru_hash", struct stream_key, struct stream_state, streams, 65536);
BPF_TABLE("lru_hash", u64, struct call, calls, 65536);
BPF_TABLE("lru_hash", struct stream_key, struct call, go_calls, 65536);

static __always_inline int is_read(u32 pid) { return content.lookup(&pid) != 0; }

static __always_inline void fill_piece(struct piece_head *piece, u64 connection, u64 place, u32 way, u32 total,
                                       u32 offset, u32 size) {
    fill(&piece->head, PLAIN);
    piece->head.a = connection;
    piece->head.b = place + offset;
    piece->head.size = 16 + size;
    piece->is_received = way & 1;
    piece->stack = way >> 1;
    piece->total = total;
    piece->offset = offset;
}

// A size that is not a constant has to be shown to the verifier as bounded, in a way that clang does not undo.  Three
// times the same, because bcc takes no map calls in macros.
static __always_inline int take_small(u64 connection, u64 buffer, u64 place, u32 way, u32 total, u32 offset, u32 size) {
    struct piece_small *piece = events.ringbuf_reserve(sizeof(struct piece_small));
    if (!piece) return 1;
    fill_piece(&piece->head, connection, place, way, total, offset, size);
    if (size >= 512) bpf_probe_read_user(piece->data, 512, (void *)(buffer + offset));
    else {
        u64 bytes = size;
        asm volatile("" : "+r"(bytes));
        bytes &= 512 - 1;
        bpf_probe_read_user(piece->data, bytes, (void *)(buffer + offset));
    }
    events.ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
    return 0;
}
static __always_inline int take_middle(u64 connection, u64 buffer, u64 place, u32 way, u32 total, u32 offset, u32 size) {
    struct piece_middle *piece = events.ringbuf_reserve(sizeof(struct piece_middle));
    if (!piece) return 1;
    fill_piece(&piece->head, connection, place, way, total, offset, size);
    if (size >= 4096) bpf_probe_read_user(piece->data, 4096, (void *)(buffer + offset));
    else {
        u64 bytes = size;
        asm volatile("" : "+r"(bytes));
        bytes &= 4096 - 1;
        bpf_probe_read_user(piece->data, bytes, (void *)(buffer + offset));
    }
    events.ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
    return 0;
}
static __always_inline int take_large(u64 connection, u64 buffer, u64 place, u32 way, u32 total, u32 offset, u32 size) {
    struct piece_large *piece = events.ringbuf_reserve(sizeof(struct piece_large));
    if (!piece) return 1;
    fill_piece(&piece->head, connection, place, way, total, offset, size);
    if (size >= PIECE) bpf_probe_read_user(piece->data, PIECE, (void *)(buffer + offset));
    else {
        u64 bytes = size;
        asm volatile("" : "+r"(bytes));
        bytes &= PIECE - 1;
        bpf_probe_read_user(piece->data, bytes, (void *)(buffer + offset));
    }
    events.ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
    return 0;
}

// Where the next bytes stand in their stream, which grows by them; -1 if it cannot be known.
static __always_inline s64 advance(u64 connection, u32 total, u32 way) {
    struct stream_key key = {.connection = connection, .pid = bpf_get_current_pid_tgid() >> 32};
    struct stream_state *state = streams.lookup(&key);
    if (!state) {
        struct stream_state fresh = {};
        streams.update(&key, &fresh);
        state = streams.lookup(&key);
        if (!state) return -1;
    }
    return way & 1 ? __sync_fetch_and_add(&state->received, total) : __sync_fetch_and_add(&state->sent, total);
}

static __always_inline int take_bytes(u64 connection, u64 buffer, u64 length, u32 way) {
    if (!length || length > 0x7fffffff) return 0;
    u32 total = length;
    s64 place = advance(connection, total, way);
    if (place < 0) return 0;
    for (u32 i = 0; i < CHUNKS; i++) {
        u32 offset = i * PIECE;
        if (offset >= total) break;
        u32 size = total - offset;
        count(2 * PLAIN);
        int failed;
        if (size <= 512) failed = take_small(connection, buffer, place, way, total, offset, size);
        else if (size <= 4096) failed = take_middle(connection, buffer, place, way, total, offset, size);
        else failed = take_large(connection, buffer, place, way, total, offset, size > PIECE ? PIECE : size);
        if (failed) count(2 * PLAIN + 1);
    }
    return 0;
}

static __always_inline int begin_call(u64 connection, u64 buffer, u64 moved) {
    u64 id = bpf_get_current_pid_tgid();
    if (!is_read(id >> 32)) return 0;
    struct call call = {.connection = connection, .buffer = buffer, .moved = moved};
    calls.update(&id, &call);
    return 0;
}

static __always_inline int end_call(struct pt_regs *ctx, u32 way) {
    u64 id = bpf_get_current_pid_tgid();
    struct call *call = calls.lookup(&id);
    if (!call) return 0;
    u64 connection = call->connection, buffer = call->buffer, moved = call->moved;
    calls.delete(&id);
    s64 result = (s32)PT_REGS_RC(ctx);
    if (moved) {
        u64 bytes = 0;
        if (result != 1 || bpf_probe_read_user(&bytes, 8, (void *)moved)) return 0;
        result = bytes;
    }
    return result > 0 ? take_bytes(connection, buffer, result, way) : 0;
}

static __always_inline int end_stream(u64 connection, u32 stack) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!is_read(pid)) return 0;
    struct stream_key key = {.connection = connection, .pid = pid};
    if (!streams.lookup(&key)) return 0;
    streams.delete(&key);
    return plain(PLAIN_END, connection, stack);
}

// OpenSSL and BoringSSL
int ssl_call(struct pt_regs *ctx) { return begin_call(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), 0); }
int ssl_call_ex(struct pt_regs *ctx) {
    return begin_call(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM4(ctx));
}
int ssl_written(struct pt_regs *ctx) { return end_call(ctx, 2); }
int ssl_got(struct pt_regs *ctx) { return end_call(ctx, 3); }
int ssl_freed(struct pt_regs *ctx) { return end_stream(PT_REGS_PARM1(ctx), 1); }

// GnuTLS
int gnutls_written(struct pt_regs *ctx) { return end_call(ctx, 4); }
int gnutls_got(struct pt_regs *ctx) { return end_call(ctx, 5); }
int gnutls_freed(struct pt_regs *ctx) { return end_stream(PT_REGS_PARM1(ctx), 2); }

// Go: arguments and results in registers, the goroutine in one of its own (ABIInternal).
#if defined(__x86_64__) || defined(bpf_target_x86)
#define GO_1(ctx) ((ctx)->ax)
#define GO_2(ctx) ((ctx)->bx)
#define GO_3(ctx) ((ctx)->cx)
#define GO_ROUTINE(ctx) ((ctx)->r14)
#else
#define GO_1(ctx) ((ctx)->regs[0])
#define GO_2(ctx) ((ctx)->regs[1])
#define GO_3(ctx) ((ctx)->regs[2])
#define GO_ROUTINE(ctx) ((ctx)->regs[28])
#endif

// A read is told at its return.  A write is told at its call: another goroutine may read the answer before this one
// comes back.  The call is remembered until it returns, so that it is told once: a file that is attached through two
// mounts runs two programs, and a stack that has to grow runs the function's first instruction twice.
#define STALE_NS 10000000000ULL
int go_write(struct pt_regs *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!is_read(pid)) return 0;
    struct stream_key key = {.connection = GO_ROUTINE(ctx), .pid = pid, .unused = 1};
    struct call call = {.connection = GO_1(ctx), .buffer = GO_2(ctx), .moved = bpf_ktime_get_ns()};
    struct call *before = go_calls.lookup(&key);
    if (before && before->connection == call.connection && before->buffer == call.buffer &&
        call.moved - before->moved < STALE_NS)
        return 0;
    u64 length = GO_3(ctx);
    go_calls.update(&key, &call);
    return take_bytes(call.connection, call.buffer, length, 6);
}
int go_wrote(struct pt_regs *ctx) {
    struct stream_key key = {.connection = GO_ROUTINE(ctx), .pid = bpf_get_current_pid_tgid() >> 32, .unused = 1};
    go_calls.delete(&key);
    return 0;
}
int go_read(struct pt_regs *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!is_read(pid)) return 0;
    struct stream_key key = {.connection = GO_ROUTINE(ctx), .pid = pid};
    struct call call = {.connection = GO_1(ctx), .buffer = GO_2(ctx)};
    go_calls.update(&key, &call);
    return 0;
}
int go_got(struct pt_regs *ctx) {
    struct stream_key key = {.connection = GO_ROUTINE(ctx), .pid = bpf_get_current_pid_tgid() >> 32};
    struct call *call = go_calls.lookup(&key);
    if (!call) return 0;
    u64 connection = call->connection, buffer = call->buffer;
    go_calls.delete(&key);
    s64 result = GO_1(ctx);
    return result > 0 ? take_bytes(connection, buffer, result, 7) : 0;
}
int go_closed(struct pt_regs *ctx) { return end_stream(GO_1(ctx), 3); }

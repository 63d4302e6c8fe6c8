// Plaintext of sockets without TLS: what a process that is read sends and receives over connections to, or taken on,
// the ports that are configured.
//
// A connection is known by its process and descriptor: marked when it is made to a port (connect) or taken on one
// (accept on a listener that was bound to it), unmarked when it is closed.  Ports are a comparison made from the settings.

struct descriptor {
    u32 pid;
    u32 number;
};
struct transfer {
    u64 descriptor;
    u64 buffer;
    u64 vector;     // number of parts, if the buffer is a vector of them
    u32 part;       // how far its bytes were told: the part, the place in it, and the place in all of them
    u32 within;
    u32 done;
    u32 unused;
};
BPF_TABLE("lru_hash", struct descriptor, u64, plain_sockets, 65536);   // to the connection's number
BPF_TABLE("lru_hash", struct descriptor, u8, plain_listeners, 8192);
BPF_TABLE("lru_hash", u64, struct transfer, transfers, 65536);
BPF_TABLE("lru_hash", u64, u64, plain_accepting, 16384);

static __always_inline u16 port_of(u64 user) {
    u16 family = 0, port = 0;
    if (!user || bpf_probe_read_user(&family, 2, (void *)user) || (family != 2 && family != 10)) return 0;
    bpf_probe_read_user(&port, 2, (void *)(user + 2));
    return (port >> 8) | (port << 8);
}

static __always_inline void mark_plain(u32 pid, u64 number) {
    struct descriptor key = {.pid = pid, .number = number};
    // Descriptors are used again; the time makes the next connection another one.
    u64 connection = (bpf_ktime_get_ns() << 1) | 1;
    plain_sockets.update(&key, &connection);
}

int plain_connect(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!is_read(pid)) return 0;
    u16 port = port_of(ctx->args[1]);
    if (PLAIN_PORTS) mark_plain(pid, ctx->args[0]);
    return 0;
}
int plain_bind(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!is_read(pid)) return 0;
    u16 port = port_of(ctx->args[1]);
    struct descriptor key = {.pid = pid, .number = ctx->args[0]};
    u8 one = 1;
    if (PLAIN_PORTS) plain_listeners.update(&key, &one);
    return 0;
}
int plain_accept(struct enter *ctx) {
    u64 id = bpf_get_current_pid_tgid();
    if (!is_read(id >> 32)) return 0;
    struct descriptor key = {.pid = id >> 32, .number = ctx->args[0]};
    u64 listener = ctx->args[0];
    if (plain_listeners.lookup(&key)) plain_accepting.update(&id, &listener);
    return 0;
}
int plain_accepted(struct leave *ctx) {
    u64 id = bpf_get_current_pid_tgid();
    if (!plain_accepting.lookup(&id)) return 0;
    plain_accepting.delete(&id);
    if (ctx->ret >= 0) mark_plain(id >> 32, ctx->ret);
    return 0;
}
int plain_close(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    struct descriptor key = {.pid = pid, .number = ctx->args[0]};
    u64 *connection = plain_sockets.lookup(&key);
    if (!connection) return 0;
    u64 number = *connection;
    plain_sockets.delete(&key);
    return end_stream(number, 4);
}

static __always_inline int begin_transfer(u64 number, u64 buffer, u64 vector) {
    u64 id = bpf_get_current_pid_tgid();
    struct descriptor key = {.pid = id >> 32, .number = number};
    u64 *connection = plain_sockets.lookup(&key);
    if (!connection) return 0;
    struct transfer transfer = {.descriptor = *connection, .buffer = buffer, .vector = vector};
    transfers.update(&id, &transfer);
    return 0;
}
// A message's header (struct msghdr): its vector is the third word, the number of parts the fourth.
static __always_inline int begin_message(u64 number, u64 header) {
    u64 vector = 0, parts = 0;
    bpf_probe_read_user(&vector, 8, (void *)(header + 16));
    bpf_probe_read_user(&parts, 8, (void *)(header + 24));
    return begin_transfer(number, vector, parts);
}
int plain_buffer(struct enter *ctx) { return begin_transfer(ctx->args[0], ctx->args[1], 0); }
int plain_vector(struct enter *ctx) { return begin_transfer(ctx->args[0], ctx->args[1], ctx->args[2]); }
int plain_message(struct enter *ctx) { return begin_message(ctx->args[0], ctx->args[1]); }
// What is looked at with MSG_PEEK is received again later.
int plain_receive(struct enter *ctx) {
    return ctx->args[3] & 2 ? 0 : begin_transfer(ctx->args[0], ctx->args[1], 0);
}
int plain_receive_message(struct enter *ctx) {
    return ctx->args[2] & 2 ? 0 : begin_message(ctx->args[0], ctx->args[1]);
}

static __always_inline int end_transfer(s64 moved, u32 way) {
    u64 id = bpf_get_current_pid_tgid();
    struct transfer *transfer = transfers.lookup(&id);
    if (!transfer) return 0;
    if (moved <= 0 || moved > 0x7fffffff) {
        transfers.delete(&id);
        return 0;
    }
    u32 total = moved;
    s64 place = advance(transfer->descriptor, total, way);
    // How far it is stands in the map and not in registers: the verifier would follow each value they may have.
    for (u32 i = 0; i < CHUNKS + 16 && place >= 0; i++) {
        u32 offset = transfer->done;
        if (offset >= total) break;
        u64 part[2] = {transfer->buffer, total};
        if (transfer->vector && (transfer->part >= transfer->vector ||
            bpf_probe_read_user(part, 16, (void *)(transfer->buffer + 16 * (u64)transfer->part)))) break;
        u64 rest = part[1] - transfer->within;
        if (part[1] <= transfer->within) {
            if (!transfer->vector) break;
            transfer->part += 1;
            transfer->within = 0;
            continue;
        }
        u32 size = total - offset;
        if (rest < size) size = rest;
        if (size > PIECE) size = PIECE;
        u64 buffer = part[0] + transfer->within - offset;  // so that `buffer + offset` is where it stands
        count(2 * PLAIN);
        int failed;
        if (size <= 512) failed = take_small(transfer->descriptor, buffer, place, way, total, offset, size);
        else if (size <= 4096) failed = take_middle(transfer->descriptor, buffer, place, way, total, offset, size);
        else failed = take_large(transfer->descriptor, buffer, place, way, total, offset, size);
        if (failed) count(2 * PLAIN + 1);
        transfer->done = offset + size;
        transfer->within += size;
    }
    transfers.delete(&id);
    return 0;
}
int plain_sent(struct leave *ctx) { return end_transfer(ctx->ret, 8); }
int plain_received(struct leave *ctx) { return end_transfer(ctx->ret, 9); }

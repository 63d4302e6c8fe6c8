// Connections: who connects where, who listens, who was accepted, and how much went over a connection.

struct address_record {
    struct head head;
    char address[112];   // a sockaddr: 16 bytes IPv4, 28 IPv6, up to 110 for a path
};

static __always_inline int take_address(u32 kind, u64 user, u64 a, u64 b) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    u16 family = 0;
    if (!user || bpf_probe_read_user(&family, 2, (void *)user)) return 0;
    if (family != 2 && family != 10 && (family != 1 || kind != CONNECT)) return 0;
    count(2 * kind);
    struct address_record *record = events.ringbuf_reserve(sizeof(struct address_record));
    if (!record) {
        count(2 * kind + 1);
        return 0;
    }
    fill(&record->head, kind);
    record->head.a = a;
    record->head.b = b;
    record->head.size = sizeof(record->address);
    __builtin_memset(record->address, 0, sizeof(record->address));
    if (family == 2) bpf_probe_read_user(record->address, 16, (void *)user);
    else if (family == 10) bpf_probe_read_user(record->address, 28, (void *)user);
    else {
        bpf_probe_read_user(record->address, 2, (void *)user);
        bpf_probe_read_user_str(record->address + 2, 108, (void *)(user + 2));
    }
    events.ringbuf_submit(record, BPF_RB_NO_WAKEUP);
    return 0;
}

int enter_connect(struct enter *ctx) {
    u16 family = 0;
    bpf_probe_read_user(&family, 2, (void *)ctx->args[1]);
    if (family == 1) {
        // Sockets of container runtimes; name services and logs are no news.
        u64 path = 0;
        bpf_probe_read_user(&path, 8, (void *)(ctx->args[1] + 2));
        if (path != 0x6e6f632f6e75722fULL && path != 0x636f642f6e75722fULL    // /run/con, /run/doc
            && path != 0x6972632f6e75722fULL && path != 0x646f702f6e75722fULL  // /run/cri, /run/pod
            && path != 0x73336b2f6e75722fULL && path != 0x6e75722f7261762fULL  // /run/k3s, /var/run
            && (path & 0x00ffffffffffffffULL) != 0x72656b636f642fULL)          // /docker
            return 0;
    }
    return take_address(CONNECT, ctx->args[1], 0, 0);
}

// Datagrams with an address of their own (UDP without connect): each peer of a process is told once while it is
// remembered, since a name server is asked again and again.
struct peer {
    u32 pid;
    u16 family;
    u16 port;
    u64 low;
    u64 high;
};
BPF_TABLE("lru_hash", struct peer, u8, peers, 16384);

static __always_inline int take_datagram(u64 user) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!user || is_left_out(pid)) return 0;
    struct peer peer = {.pid = pid};
    bpf_probe_read_user(&peer.family, 4, (void *)user);  // and the port
    if (peer.family == 2) bpf_probe_read_user(&peer.low, 4, (void *)(user + 4));
    else if (peer.family == 10) bpf_probe_read_user(&peer.low, 16, (void *)(user + 8));
    else return 0;
    if (peers.lookup(&peer)) return 0;
    u8 one = 1;
    peers.update(&peer, &one);
    return take_address(DATAGRAM, user, 0, 0);
}
int enter_sendto(struct enter *ctx) { return ctx->args[4] ? take_datagram(ctx->args[4]) : 0; }
// The first word of a message's header is its address; sendmmsg is looked at by its first message.
int enter_sendmsg(struct enter *ctx) {
    u64 name = 0;
    bpf_probe_read_user(&name, 8, (void *)ctx->args[1]);
    return name ? take_datagram(name) : 0;
}

BPF_HASH(accepting, u64, u64, 16384);
int enter_accept(struct enter *ctx) {
    u64 id = bpf_get_current_pid_tgid(), user = ctx->args[1];
    if (user && !is_left_out(id >> 32)) accepting.update(&id, &user);
    return 0;
}
int leave_accept(struct leave *ctx) {
    u64 id = bpf_get_current_pid_tgid();
    u64 *user = accepting.lookup(&id);
    if (!user) return 0;
    u64 where = *user;
    accepting.delete(&id);
    return ctx->ret < 0 ? 0 : take_address(ACCEPT, where, 0, 0);
}

struct traffic {
    u64 sent;
    u64 received;
    u32 pid;
    u32 unused;
};
BPF_TABLE("lru_hash", u64, struct traffic, volumes, 65536);

struct state_record {
    struct head head;      // a: bytes sent, b: bytes received
    u16 family;
    u16 state;
    u16 source_port;
    u16 destination_port;
    char source[16];
    char destination[16];
    u32 pid;               // whose socket it was; the task at hand may be anybody
    u32 unused;
};

#ifdef OFF_inet_sock_set_state_skaddr
static __always_inline int take_state(void *ctx, u32 kind, u64 sent, u64 received, u32 pid) {
    count(2 * kind);
    struct state_record *record = events.ringbuf_reserve(sizeof(struct state_record));
    if (!record) {
        count(2 * kind + 1);
        return 0;
    }
    fill(&record->head, kind);
    record->head.a = sent;
    record->head.b = received;
    record->head.size = sizeof(struct state_record) - sizeof(struct head);
    record->family = *(u16 *)(ctx + OFF_inet_sock_set_state_family);
    record->source_port = *(u16 *)(ctx + OFF_inet_sock_set_state_sport);
    record->destination_port = *(u16 *)(ctx + OFF_inet_sock_set_state_dport);
    bpf_probe_read_kernel(record->source, 16, ctx + OFF_inet_sock_set_state_saddr_v6);
    bpf_probe_read_kernel(record->destination, 16, ctx + OFF_inet_sock_set_state_daddr_v6);
    record->state = 0;
    record->pid = pid;
    record->unused = 0;
    events.ringbuf_submit(record, BPF_RB_NO_WAKEUP);
    return 0;
}

int set_state(void *ctx) {
    int now = 0, old = 0;
    now = *(u32 *)(ctx + OFF_inet_sock_set_state_newstate);
    if (now != 10 && now != 7) return 0;  // LISTEN, CLOSE
    if (now == 10) {
        u32 pid = bpf_get_current_pid_tgid() >> 32;
        return is_left_out(pid) ? 0 : take_state(ctx, LISTEN, 0, 0, pid);
    }
    u64 socket = 0;
    socket = *(u64 *)(ctx + OFF_inet_sock_set_state_skaddr);
    struct traffic *seen = volumes.lookup(&socket);
    if (!seen) return 0;
    struct traffic copy = *seen;
    volumes.delete(&socket);
    return is_left_out(copy.pid) ? 0 : take_state(ctx, CLOSE, copy.sent, copy.received, copy.pid);
}

#endif

static __always_inline int take_volume(u64 socket, u16 family, u16 protocol, int moved, int is_sent) {
    if (moved <= 0 || protocol != 6 || (family != 2 && family != 10)) return 0;
    struct traffic *seen = volumes.lookup(&socket);
    if (!seen) {
        struct traffic fresh = {};
        fresh.pid = bpf_get_current_pid_tgid() >> 32;
        volumes.update(&socket, &fresh);
        seen = volumes.lookup(&socket);
        if (!seen) return 0;
    }
    if (is_sent) __sync_fetch_and_add(&seen->sent, moved);
    else __sync_fetch_and_add(&seen->received, moved);
    return 0;
}
#ifdef OFF_sock_send_length_sk
int send_length(void *ctx) {
    u64 socket = 0; u16 family = 0, protocol = 0; int moved = 0;
    socket = *(u64 *)(ctx + OFF_sock_send_length_sk);
    family = *(u16 *)(ctx + OFF_sock_send_length_family);
    protocol = *(u16 *)(ctx + OFF_sock_send_length_protocol);
    moved = *(u32 *)(ctx + OFF_sock_send_length_ret);
    return take_volume(socket, family, protocol, moved, 1);
}
int recv_length(void *ctx) {
    u64 socket = 0; u16 family = 0, protocol = 0; int moved = 0;
    socket = *(u64 *)(ctx + OFF_sock_recv_length_sk);
    family = *(u16 *)(ctx + OFF_sock_recv_length_family);
    protocol = *(u16 *)(ctx + OFF_sock_recv_length_protocol);
    moved = *(u32 *)(ctx + OFF_sock_recv_length_ret);
    return take_volume(socket, family, protocol, moved, 0);
}
#endif

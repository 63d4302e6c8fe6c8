// Lives of processes: exec with arguments, exit, fork.

#define ARGS_BYTES 4096
#define ARG_BYTES 1024
#define MOST_ARGS 128
#define MOST_ENV 512

struct args_record {
    struct head head;        // a: bytes of the arguments, b: bytes of the environment
    char text[8192 + 256];   // path, arguments, environment, each text ended by a NUL
    u32 at;
    u32 start;
    u32 is_cut;
};
BPF_PERCPU_ARRAY(args_scratch, struct args_record, 1);
BPF_HASH(exit_codes, u32, u32, 16384);

// How the names of the variables that change what a program loads begin (little endian).
static __always_inline int is_telling(u64 first) {
    return first == 0x4f4c4552505f444cULL     // LD_PRELO(AD)
        || first == 0x54494455415f444cULL  // LD_AUDIT
        || first == 0x415242494c5f444cULL     // LD_LIBRA(RY_PATH)
        || first == 0x41504e4f48545950ULL     // PYTHONPA(TH)
        || first == 0x54534e4f48545950ULL     // PYTHONST(ARTUP)
        || first == 0x54504f5f45444f4eULL     // NODE_OPT(IONS)
        || first == 0x564e455f48534142ULL     // BASH_ENV
        || first == 0x41505f564e4f4347ULL     // GCONV_PA(TH)
        || first == 0x42494c354c524550ULL     // PERL5LIB
        || first == 0x4f484e4f48545950ULL     // PYTHONHO(ME)
        || first == 0x55545f4342494c47ULL     // GLIBC_TU(NABLES)
        || first == 0x4f4f545f4156414aULL     // JAVA_TOO(L_OPTIONS)
        || (u32)first == 0x3d564e45U;         // ENV=
}

static __always_inline int take_exec(u64 path, u64 argv, u64 envp, u32 kind) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int zero = 0;
    struct args_record *record = args_scratch.lookup(&zero);
    if (!record) return 0;
    count(2 * kind);
    fill(&record->head, kind);
    // Places are kept in the record and not in registers: the verifier would follow each value they may have.
    int got = bpf_probe_read_user_str(record->text, TEXT_BYTES, (void *)path);
    if (got <= 0) {
        record->text[0] = 0;
        got = 1;
    }
    record->at = got;
    record->is_cut = 0;
    for (int i = 0; i < MOST_ARGS; i++) {
        u64 arg = 0;
        if (bpf_probe_read_user(&arg, 8, (void *)(argv + 8 * i)) || !arg) break;
        u32 where = record->at;
        if (where >= ARGS_BYTES || i == MOST_ARGS - 1) {
            record->is_cut = 1;
            break;
        }
        got = bpf_probe_read_user_str(record->text + (where & (ARGS_BYTES - 1)), ARG_BYTES, (void *)arg);
        if (got <= 0) break;
        if (got == ARG_BYTES) record->is_cut = 1;
        record->at = where + got;
    }
    record->start = record->at;
    for (int i = 0; i < MOST_ENV; i++) {
        u64 arg = 0, begin = 0;
        if (bpf_probe_read_user(&arg, 8, (void *)(envp + 8 * i)) || !arg) break;
        if (bpf_probe_read_user(&begin, 8, (void *)arg) || !is_telling(begin)) continue;
        u32 where = record->at;
        if (where >= 8192 - 256) break;
        got = bpf_probe_read_user_str(record->text + (where & 8191), 256, (void *)arg);
        if (got > 0) record->at = where + got;
    }
    u32 at = record->at;
    if (at > sizeof(record->text)) at = sizeof(record->text);
    record->head.a = record->start | ((u64)record->is_cut << 32);
    record->head.b = at - record->start;
    record->head.size = at;
    u64 total = sizeof(struct head) + at;
    asm volatile("" : "+r"(total));
    if (total > sizeof(struct head) + sizeof(record->text)) total = sizeof(struct head) + sizeof(record->text);
    if (events.ringbuf_output(record, total, BPF_RB_NO_WAKEUP)) count(2 * kind + 1);
    return 0;
}

int enter_execve(struct enter *ctx) { return take_exec(ctx->args[0], ctx->args[1], ctx->args[2], EXEC_ARGS); }
int enter_execveat(struct enter *ctx) { return take_exec(ctx->args[1], ctx->args[2], ctx->args[3], EXEC_ARGS); }

// Programs (by a hash of the path they are started under) whose processes are read, as user space decided before: a
// process that runs one is read from its first instruction on, and not from when user space hears of it.
BPF_HASH(wanted, u64, u8, 4096);

#ifdef OFF_sched_process_exec_filename
int sched_exec(void *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int zero = 0;
    struct text_record *record = text_scratch.lookup(&zero);
    if (!record) return 0;
    u32 place = 0, old = 0;
    place = *(u32 *)(ctx + OFF_sched_process_exec_filename);
    old = *(u32 *)(ctx + OFF_sched_process_exec_old_pid);
    int got = bpf_probe_read_kernel_str(record->text, TEXT_BYTES, ctx + (place & 0xffff));
#ifdef WAKES
    u64 hash = 0xcbf29ce484222325ULL;  // FNV-1a
    for (int i = 0; i < TEXT_BYTES; i++) {
        if (!record->text[i]) break;
        hash = (hash ^ (u8)record->text[i]) * 0x100000001b3ULL;
    }
    u8 *is_wanted = wanted.lookup(&hash);
    if (is_wanted) {
        u8 one = 1;
        if (*is_wanted) content.update(&pid, &one);
        else content.delete(&pid);
    }
#endif
    with_text(record, EXEC, old, 0, got > 0 ? got : 0);
    return 0;
}

#endif

// The last thread may end by exit(2) and not by exit_group(2).
int enter_exit(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    u32 code = ctx->args[0];
    exit_codes.update(&pid, &code);
    return 0;
}
int enter_exit_group(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    u32 code = ctx->args[0];
    exit_codes.update(&pid, &code);
    return 0;
}

// The last signal that ends a process by default, until it ends or starts another program.
BPF_TABLE("lru_hash", u32, u32, last_signals, 16384);

#ifdef OFF_signal_generate_sig
int signal_sent(void *ctx) {
    int signal = 0, target = 0, result = 0;
    signal = *(u32 *)(ctx + OFF_signal_generate_sig);
    target = *(u32 *)(ctx + OFF_signal_generate_pid);
    result = *(u32 *)(ctx + OFF_signal_generate_result);
    // SIGCHLD, SIGCONT, SIGWINCH, SIGURG and stop signals of a terminal end nothing; a signal that was not put is none.
    if (result || signal <= 0 || signal > 31 || signal == 17 || signal == 18 || signal == 28 || signal == 23) return 0;
    u64 id = bpf_get_current_pid_tgid();
    u32 pid = id >> 32, value = signal;
    // The target is a thread; of one that signals itself (a crash) the process is known.
    u32 key = (u32)id == target ? pid : target;
    last_signals.update(&key, &value);
    if (pid && pid != target && (signal == 9 || signal == 15 || signal == 19)) return plain(SIGNAL, signal, target);
    return 0;
}
#endif

int sched_exit(void *ctx) {
    u64 id = bpf_get_current_pid_tgid();
    u32 pid = id >> 32, tid = id;
#ifdef OFF_sched_process_exit_group_dead
    // The first thread may end before the others, and execve by another thread ends it: only the last one counts.
    u8 is_last = 0;
    is_last = *(u8 *)(ctx + OFF_sched_process_exit_group_dead);
    if (!is_last) return 0;
#else
    if (pid != tid) return 0;
#endif
    u32 *code = exit_codes.lookup(&pid), *signal = last_signals.lookup(&pid);
    plain(EXIT, code ? *code : 0, code ? 0 : signal ? *signal : 0);
    exit_codes.delete(&pid);
    last_signals.delete(&pid);
    ignored.delete(&pid);
    content.delete(&pid);
    stands_near.delete(&pid);
    return 0;
}

#ifdef OFF_task_newtask_pid
int new_task(void *ctx) {
    u32 child = 0;
    u64 flags = 0;
    child = *(u32 *)(ctx + OFF_task_newtask_pid);
    flags = *(u64 *)(ctx + OFF_task_newtask_clone_flags);
    if (flags & 0x00010000) return 0;  // CLONE_THREAD
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    u8 one = 1;
    if (content.lookup(&pid)) content.update(&child, &one);
    if (stands_near.lookup(&pid)) stands_near.update(&child, &one);
#ifdef SCOPED
    if (ignored.lookup(&pid)) { ignored.update(&child, &one); return 0; }
#endif
    return plain(FORK, child, flags);
}

#endif

// A task that is put into another control group may belong to a pod now.  Which group is told: the task that a runtime
// puts there forks the container's first process and ends, before anybody could ask.
#ifdef OFF_cgroup_attach_task_dst_path
int attach_cgroup(void *ctx) {
    u32 pid = *(u32 *)(ctx + OFF_cgroup_attach_task_pid);
    ignored.delete(&pid);
    if (is_left_out(bpf_get_current_pid_tgid() >> 32)) return 0;
    int zero = 0;
    struct text_record *record = text_scratch.lookup(&zero);
    if (!record) return 0;
    u32 place = *(u32 *)(ctx + OFF_cgroup_attach_task_dst_path);
    int got = bpf_probe_read_kernel_str(record->text, TEXT_BYTES, ctx + (place & 0xffff));
    with_text(record, CGROUP, pid, 0, got > 0 ? got : 0);
    return 0;
}
#endif

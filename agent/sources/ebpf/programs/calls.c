// System calls that are rare and telling: each is one record with up to two numbers, some with a text.

static __always_inline int take_text(u32 kind, u64 user, u64 a, u64 b) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int zero = 0;
    struct text_record *record = text_scratch.lookup(&zero);
    if (!record) return 0;
    int got = user ? bpf_probe_read_user_str(record->text, TEXT_BYTES, (void *)user) : 0;
    return with_text(record, kind, a, b, got > 0 ? got : 0);
}

int enter_ptrace(struct enter *ctx) {
    u64 request = ctx->args[0];
    // POKETEXT, POKEDATA, POKEUSER, ATTACH, SETREGS, SEIZE: those that begin or change; not each step of a debugger.
    if (request != 4 && request != 5 && request != 6 && request != 13 && request != 16 && request != 0x4206) return 0;
    return plain(PTRACE, request, ctx->args[1]);
}
int enter_process_vm_readv(struct enter *ctx) { return plain(VM_READ, ctx->args[0], 0); }
int enter_process_vm_writev(struct enter *ctx) { return plain(VM_WRITE, ctx->args[0], 0); }
int enter_pidfd_getfd(struct enter *ctx) { return plain(GETFD, ctx->args[0], ctx->args[1]); }
int enter_memfd_create(struct enter *ctx) { return take_text(MEMFD, ctx->args[0], ctx->args[1], 0); }
int enter_bpf(struct enter *ctx) {
    u64 command = ctx->args[0];
    // PROG_LOAD, PROG_ATTACH, RAW_TRACEPOINT_OPEN, LINK_CREATE
    return command == 5 || command == 8 || command == 17 || command == 28 ? plain(BPF_CALL, command, 0) : 0;
}
int enter_mount(struct enter *ctx) { return take_text(MOUNT, ctx->args[1], ctx->args[3], 0); }
int enter_move_mount(struct enter *ctx) { return take_text(MOUNT, ctx->args[3], 0, 0); }
int enter_fsopen(struct enter *ctx) { return take_text(MOUNT, ctx->args[0], 1, 0); }
int enter_umount(struct enter *ctx) { return take_text(UMOUNT, ctx->args[0], ctx->args[1], 0); }
int enter_pivot_root(struct enter *ctx) { return take_text(PIVOT, ctx->args[0], 0, 0); }
int enter_chroot(struct enter *ctx) { return take_text(CHROOT, ctx->args[0], 0, 0); }
int enter_setns(struct enter *ctx) { return plain(SETNS, ctx->args[1], ctx->args[0]); }
int enter_unshare(struct enter *ctx) { return plain(UNSHARE, ctx->args[0], 0); }
int enter_setuid(struct enter *ctx) { return plain(SETUID, ctx->args[0], 0); }
int enter_setgid(struct enter *ctx) { return plain(SETGID, ctx->args[0], 0); }
int enter_setreuid(struct enter *ctx) { return plain(SETREUID, ctx->args[0], ctx->args[1]); }
int enter_setregid(struct enter *ctx) { return plain(SETREGID, ctx->args[0], ctx->args[1]); }
int enter_setresuid(struct enter *ctx) { return plain(SETRESUID, ctx->args[0], ctx->args[1]); }
int enter_setresgid(struct enter *ctx) { return plain(SETRESGID, ctx->args[0], ctx->args[1]); }
int enter_capset(struct enter *ctx) { return plain(CAPSET, 0, 0); }
int enter_init_module(struct enter *ctx) { return plain(MODULE, 0, 0); }
int enter_finit_module(struct enter *ctx) { return plain(MODULE, ctx->args[0], 1); }
int enter_open_by_handle_at(struct enter *ctx) { return plain(BY_HANDLE, ctx->args[0], ctx->args[2]); }
int enter_io_uring_setup(struct enter *ctx) { return plain(URING, ctx->args[0], 0); }
int enter_sethostname(struct enter *ctx) { return plain(HOSTNAME, 0, 0); }
int enter_setdomainname(struct enter *ctx) { return plain(HOSTNAME, 1, 0); }
// ADDR_NO_RANDOMIZE and the like; 0xffffffff only asks.
int enter_personality(struct enter *ctx) {
    u32 persona = ctx->args[0];
    return persona && persona != 0xffffffff ? plain(PERSONALITY, persona, 0) : 0;
}
int enter_userfaultfd(struct enter *ctx) { return plain(USERFAULT, ctx->args[0], 0); }
int enter_perf_event_open(struct enter *ctx) { return plain(PERF, ctx->args[1], 0); }
int enter_add_key(struct enter *ctx) { return take_text(KEYS, ctx->args[0], 0, 0); }
int enter_request_key(struct enter *ctx) { return take_text(KEYS, ctx->args[0], 1, 0); }
int enter_kexec_load(struct enter *ctx) { return plain(KEXEC, 0, 0); }
int enter_kexec_file_load(struct enter *ctx) { return plain(KEXEC, 1, 0); }
int enter_delete_module(struct enter *ctx) { return take_text(MODULE_OUT, ctx->args[0], 0, 0); }
// AF_PACKET, or SOCK_RAW of the internet families.
int enter_socket(struct enter *ctx) {
    u64 family = ctx->args[0], type = ctx->args[1] & 0xf;
    return family == 17 || (type == 3 && (family == 2 || family == 10)) ? plain(RAW_SOCKET, family, type) : 0;
}

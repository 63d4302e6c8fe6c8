// Files that are opened, changed and removed, told by their path.  FILTER_* are comparisons made from the settings.

static __always_inline struct text_record *path_of(u64 user, int *size) {
    int zero = 0;
    struct text_record *record = text_scratch.lookup(&zero);
    if (!record) return 0;
    int got = bpf_probe_read_user_str(record->text, TEXT_BYTES, (void *)user);
    if (got <= 1) return 0;
    *size = got;
    return record;
}

// Whether the path is one of those to be told.
static __always_inline int is_told(struct text_record *record, int size) {
    u64 first, second, last, before;
    first = *(u64 *)record->text;
    second = *(u64 *)(record->text + 8);
    // The text and its NUL end at `size`; the sixteen bytes before that NUL are what endings are compared with.  A
    // shorter path is compared with what the scratch holds before it: `head.comm`, which no ending equals by chance
    // (endings are at most as long as the path, see FILTER_LAST).
    u32 length = (size - 1) & (TEXT_BYTES - 1);
    char *end = record->text + length;
    last = *(u64 *)(end - 8);
    before = *(u64 *)(end - 16);
    if (FILTER_FIRST) return 1;
    return FILTER_LAST;
}

static __always_inline int take_path(u32 kind, u64 user, u64 a, u64 b) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(user, &size);
    if (!record || !is_told(record, size)) return 0;
    return with_text(record, kind, a, b, size);
}

int enter_openat(struct enter *ctx) { return take_path(OPEN, ctx->args[1], ctx->args[2], ctx->args[0]); }
int enter_open(struct enter *ctx) { return take_path(OPEN, ctx->args[0], ctx->args[1], -100); }
int enter_creat(struct enter *ctx) { return take_path(OPEN, ctx->args[0], 01101, -100); }
int enter_openat2(struct enter *ctx) {
    u64 flags = 0;
    bpf_probe_read_user(&flags, 8, (void *)ctx->args[2]);
    return take_path(OPEN, ctx->args[1], flags, ctx->args[0]);
}
int enter_unlink(struct enter *ctx) { return take_path(UNLINK, ctx->args[0], 0, -100); }
int enter_unlinkat(struct enter *ctx) { return take_path(UNLINK, ctx->args[1], 0, ctx->args[0]); }
int enter_truncate(struct enter *ctx) { return take_path(TRUNCATE, ctx->args[0], ctx->args[1], -100); }
int enter_rename(struct enter *ctx) { return take_path(RENAME, ctx->args[1], 0, -100); }
int enter_renameat(struct enter *ctx) { return take_path(RENAME, ctx->args[3], 0, ctx->args[2]); }
int enter_renameat2(struct enter *ctx) { return take_path(RENAME, ctx->args[3], 0, ctx->args[2]); }
int enter_link(struct enter *ctx) { return take_path(LINK, ctx->args[1], 0, -100); }
int enter_linkat(struct enter *ctx) { return take_path(LINK, ctx->args[3], 0, ctx->args[2]); }
int enter_symlink(struct enter *ctx) { return take_path(LINK, ctx->args[1], 0, -100); }
int enter_symlinkat(struct enter *ctx) { return take_path(LINK, ctx->args[2], 0, ctx->args[1]); }
int enter_utimensat(struct enter *ctx) {
    if (!ctx->args[1] || !ctx->args[2]) return 0;
    return take_path(UTIMES, ctx->args[1], 0, ctx->args[0]);
}

// Told whatever the file is: bits that give rights. Otherwise as any other path.
static __always_inline int take_mode(u64 user, u64 mode, u64 directory) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(user, &size);
    if (!record || (!(mode & 06002) && !is_told(record, size))) return 0;
    return with_text(record, CHMOD, mode, directory, size);
}
int enter_chmod(struct enter *ctx) { return take_mode(ctx->args[0], ctx->args[1], -100); }
int enter_fchmodat(struct enter *ctx) { return take_mode(ctx->args[1], ctx->args[2], ctx->args[0]); }
int enter_fchmodat2(struct enter *ctx) { return take_mode(ctx->args[1], ctx->args[2], ctx->args[0]); }
int enter_fchmod(struct enter *ctx) {
    return ctx->args[1] & 06000 ? plain(FCHMOD, ctx->args[1], ctx->args[0]) : 0;
}

// security.capability: a file that gives capabilities to whoever runs it.
static __always_inline int take_xattr(u64 path, u64 name) {
    char start[24] = {};
    bpf_probe_read_user_str(start, sizeof(start), (void *)name);
    if (*(u64 *)start != 0x7974697275636573ULL || *(u64 *)(start + 8) != 0x696c69626170632eULL) return 0;
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(path, &size);
    return record ? with_text(record, SETCAP, 0, -100, size) : 0;
}
int enter_setxattr(struct enter *ctx) { return take_xattr(ctx->args[0], ctx->args[1]); }
int enter_fsetxattr(struct enter *ctx) {
    char start[24] = {};
    bpf_probe_read_user_str(start, sizeof(start), (void *)ctx->args[1]);
    if (*(u64 *)start != 0x7974697275636573ULL || *(u64 *)(start + 8) != 0x696c69626170632eULL) return 0;
    return plain(FSETCAP, 0, ctx->args[0]);
}

// Files that are opened, changed and removed, told by their path.  FILTER_* are comparisons made from the settings.

static __always_inline struct text_record *path_of(u64 user, int *size) {
    int zero = 0;
    struct text_record *record = text_scratch.lookup(&zero);
    if (!record) return 0;
    int got = bpf_probe_read_user_str(record->text, TEXT_BYTES, (void *)user);
    // A page that nobody has touched yet cannot be read here: user space reads it, if the process lives.
    if (got < 0) plain(UNREAD, user, 0);
    if (got <= 1) return 0;
    *size = got;
    return record;
}

// Whether the path is written in a way that hides what it begins with: "//", "/./", "/../".  Eight bytes at a time: bytes that are a slash, and bytes behind one that are a slash or
// a dot.
#define ONES 0x0101010101010101ULL
#define HIGH 0x8080808080808080ULL
static __always_inline u64 bytes_that_are(u64 word, u64 pattern) {
    u64 x = word ^ pattern;
    return ~(((x & ~HIGH) + ~HIGH) | x | ~HIGH);
}
static __always_inline int is_odd(struct text_record *record, int size) {
    u64 carried = 0;
    for (int i = 0; i < TEXT_BYTES / 8; i++) {
        if (i * 8 >= size) break;
        u64 word = *(u64 *)(record->text + i * 8);
        u64 slash = bytes_that_are(word, 0x2f2f2f2f2f2f2f2fULL), dot = bytes_that_are(word, 0x2e2e2e2e2e2e2e2eULL);
        u64 behind = (slash << 8) | carried;
        // A dot that begins a name (".ssh") is no odd path: only one that is followed by a slash or another dot.
        u64 next = *(u64 *)(record->text + i * 8 + 1);
        u64 ends = bytes_that_are(next, 0x2f2f2f2f2f2f2f2fULL) | bytes_that_are(next, 0x2e2e2e2e2e2e2e2eULL);
        if ((behind & slash) || (behind & dot & ends)) return 1;
        carried = (slash >> 56) & 0x80 ? 0x80 : 0;
    }
    return 0;
}

// Whether the path is one of those to be told.  What is written is told in more places than what is read; a relative
// path that is written is told to user space, which knows what it is relative to.
static __always_inline int is_told(struct text_record *record, int size, int is_write) {
    u64 first = *(u64 *)record->text, second = *(u64 *)(record->text + 8);
    if (size >= TEXT_BYTES || is_odd(record, size)) return 1;
    int is_relative = (first & 0xff) != '/';
    if (is_relative) {
        u32 pid = bpf_get_current_pid_tgid() >> 32;
        if (is_write || stands_near.lookup(&pid)) return 1;
    }
    if (FILTER_FIRST) return 1;
    if (is_write && (FILTER_WRITTEN)) return 1;
    // Endings are compared with the sixteen bytes before the NUL.  What stands before the text (the name, which `fill`
    // sets later) is cleared, so that no ending fits that is longer than the path; its last byte stands in for the slash
    // before a relative path.
    u64 *name = (u64 *)record->head.comm;
    name[0] = 0;
    name[1] = is_relative ? 0x2f00000000000000ULL : 0;
    u32 length = (size - 1) & (TEXT_BYTES - 1);
    char *end = record->text + length;
    u64 last = *(u64 *)(end - 8), before = *(u64 *)(end - 16);
    return FILTER_LAST;
}

static __always_inline int take_path(u32 kind, u64 user, u64 a, u64 b, int is_write) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(user, &size);
    if (!record || !is_told(record, size, is_write)) return 0;
    return with_text(record, kind, a, b, size);
}

// Of two names the one that is to be told: the old one, or else the new one.
static __always_inline int take_names(u32 kind, u64 old, u64 old_at, u64 new, u64 new_at) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(old, &size);
    if (record && is_told(record, size, 0)) return with_text(record, kind, 1, old_at, size);
    size = 0;
    record = path_of(new, &size);
    if (!record || !is_told(record, size, 1)) return 0;
    return with_text(record, kind, 0, new_at, size);
}

#define WRITES(flags) (((flags) & 3) || ((flags) & 01100))
int enter_openat(struct enter *ctx) {
    return take_path(OPEN, ctx->args[1], ctx->args[2], ctx->args[0], WRITES(ctx->args[2]));
}
int enter_open(struct enter *ctx) { return take_path(OPEN, ctx->args[0], ctx->args[1], -100, WRITES(ctx->args[1])); }
int enter_creat(struct enter *ctx) { return take_path(OPEN, ctx->args[0], 01101, -100, 1); }
int enter_openat2(struct enter *ctx) {
    u64 flags = 0;
    bpf_probe_read_user(&flags, 8, (void *)ctx->args[2]);
    return take_path(OPEN, ctx->args[1], flags, ctx->args[0], WRITES(flags));
}
int enter_unlink(struct enter *ctx) { return take_path(UNLINK, ctx->args[0], 0, -100, 1); }
int enter_unlinkat(struct enter *ctx) { return take_path(UNLINK, ctx->args[1], 0, ctx->args[0], 1); }
int enter_rmdir(struct enter *ctx) { return take_path(RMDIR, ctx->args[0], 0, -100, 1); }
int enter_mkdir(struct enter *ctx) { return take_path(MKDIR, ctx->args[0], 0, -100, 1); }
int enter_mkdirat(struct enter *ctx) { return take_path(MKDIR, ctx->args[1], 0, ctx->args[0], 1); }
int enter_truncate(struct enter *ctx) { return take_path(TRUNCATE, ctx->args[0], ctx->args[1], -100, 1); }
int enter_rename(struct enter *ctx) { return take_names(RENAME, ctx->args[0], -100, ctx->args[1], -100); }
int enter_renameat(struct enter *ctx) {
    return take_names(RENAME, ctx->args[1], ctx->args[0], ctx->args[3], ctx->args[2]);
}
int enter_renameat2(struct enter *ctx) {
    return take_names(RENAME, ctx->args[1], ctx->args[0], ctx->args[3], ctx->args[2]);
}
int enter_link(struct enter *ctx) { return take_names(LINK, ctx->args[0], -100, ctx->args[1], -100); }
int enter_linkat(struct enter *ctx) {
    return take_names(LINK, ctx->args[1], ctx->args[0], ctx->args[3], ctx->args[2]);
}
int enter_symlink(struct enter *ctx) { return take_names(LINK, ctx->args[0], -100, ctx->args[1], -100); }
int enter_symlinkat(struct enter *ctx) { return take_names(LINK, ctx->args[0], -100, ctx->args[2], ctx->args[1]); }
int enter_utimensat(struct enter *ctx) {
    if (!ctx->args[2]) return 0;  // now
    if (!ctx->args[1]) return plain(FUTIMES, 0, ctx->args[0]);
    return take_path(UTIMES, ctx->args[1], 0, ctx->args[0], 1);
}
int enter_chown(struct enter *ctx) { return take_path(CHOWN, ctx->args[0], ctx->args[1], -100, 1); }
int enter_lchown(struct enter *ctx) { return take_path(CHOWN, ctx->args[0], ctx->args[1], -100, 1); }
int enter_fchownat(struct enter *ctx) { return take_path(CHOWN, ctx->args[1], ctx->args[2], ctx->args[0], 1); }
int enter_fchown(struct enter *ctx) { return plain(FCHOWN, ctx->args[1], ctx->args[0]); }
// Devices only: block and character.
int enter_mknodat(struct enter *ctx) {
    u32 kind = ctx->args[2] & 0170000;
    return kind == 0020000 || kind == 0060000 ? take_path(MKNOD, ctx->args[1], kind, ctx->args[0], 1) : 0;
}
int enter_mknod(struct enter *ctx) {
    u32 kind = ctx->args[1] & 0170000;
    return kind == 0020000 || kind == 0060000 ? take_path(MKNOD, ctx->args[0], kind, -100, 1) : 0;
}

// Told whatever the file is: bits that give rights. Otherwise as any other path.
static __always_inline int take_mode(u64 user, u64 mode, u64 directory) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(user, &size);
    if (!record || (!(mode & 06002) && !is_told(record, size, 1))) return 0;
    return with_text(record, CHMOD, mode, directory, size);
}
int enter_chmod(struct enter *ctx) { return take_mode(ctx->args[0], ctx->args[1], -100); }
int enter_fchmodat(struct enter *ctx) { return take_mode(ctx->args[1], ctx->args[2], ctx->args[0]); }
int enter_fchmodat2(struct enter *ctx) { return take_mode(ctx->args[1], ctx->args[2], ctx->args[0]); }
int enter_fchmod(struct enter *ctx) {
    return ctx->args[1] & 06002 ? plain(FCHMOD, ctx->args[1], ctx->args[0]) : 0;
}

// security.capability: a file that gives capabilities to whoever runs it.
static __always_inline int take_xattr(u64 path, u64 name) {
    char start[24] = {};
    bpf_probe_read_user_str(start, sizeof(start), (void *)name);
    if (*(u64 *)start != 0x7974697275636573ULL || *(u64 *)(start + 8) != 0x6c6962617061632eULL) return 0;
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    struct text_record *record = path_of(path, &size);
    return record ? with_text(record, SETCAP, 0, -100, size) : 0;
}
int enter_setxattr(struct enter *ctx) { return take_xattr(ctx->args[0], ctx->args[1]); }
int enter_setxattrat(struct enter *ctx) { return take_xattr(ctx->args[1], ctx->args[3]); }
int enter_lsetxattr(struct enter *ctx) { return take_xattr(ctx->args[0], ctx->args[1]); }
int enter_fsetxattr(struct enter *ctx) {
    char start[24] = {};
    bpf_probe_read_user_str(start, sizeof(start), (void *)ctx->args[1]);
    if (*(u64 *)start != 0x7974697275636573ULL || *(u64 *)(start + 8) != 0x6c6962617061632eULL) return 0;
    return plain(FSETCAP, 0, ctx->args[0]);
}

// Where a process stands now: what its relative paths begin with, also when it is gone before anybody can ask.  Its
// relative paths are told from now on, until user space says that they need not be.
int enter_chdir(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (is_left_out(pid)) return 0;
    int size = 0;
    u8 one = 1;
    stands_near.update(&pid, &one);
    struct text_record *record = path_of(ctx->args[0], &size);
    return record ? with_text(record, CHDIR, 0, -100, size) : 0;
}
int enter_fchdir(struct enter *ctx) {
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    u8 one = 1;
    if (!is_left_out(pid)) stands_near.update(&pid, &one);
    return plain(FCHDIR, 0, ctx->args[0]);
}

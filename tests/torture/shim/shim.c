/* Faults of a file system for LD_PRELOAD: counts the calls that change files below a folder, and at the n-th one fails
 * with an error number, writes only a part, or kills the process. On request it is the calls that read which fail.
 *
 * What is done is in a small file that all processes map (shim.py writes it), so it can be changed while a process
 * runs, and children go on counting. Calls are seen where a library calls libc by name: Python, Rust's std and the C++
 * libraries do; a raw system call is not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAIL = 0, SHORT = 1, KILL_BEFORE = 2, KILL_INSIDE = 3, KILL_AFTER = 4 };

/* The same fields, in the same order, as `_LAYOUT` of shim.py. */
typedef struct {
    int64_t armed;  /* 0: count nothing */
    int64_t at;     /* number of the call, from 1; 0: only count */
    int64_t number; /* errno */
    int64_t action;
    int64_t once;   /* 0: every later call fails too */
    int64_t count;  /* calls so far */
    int64_t hits;   /* calls that were disturbed */
    int64_t reads;  /* 1: the calls that read count, and none that change files */
    char folder[1024];
    char function[64]; /* part of the name of the calls that count; empty: all */
    char file[256];    /* part of the path of the calls that count; empty: all */
} Control;

static Control *control;
static int log_fd = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SAM2FT_SHIM");
    if (!path) return;
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    syscall(SYS_close, fd);
    if (mapped == MAP_FAILED) return;
    char log[PATH_MAX];
    snprintf(log, sizeof log, "%s.log", path);
    long opened = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    /* Away from the numbers that programs expect for their first files. */
    log_fd = (int)syscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, opened);
    control = mapped;
}

static const char *of_fd(int fd, char *room) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, room, PATH_MAX - 1);
    if (size < 0) return "";
    room[size] = 0;
    return room;
}

static const char *of_path(int dir, const char *path, char *room) {
    if (!path) return "";
    if (path[0] == '/') return path;
    char base[PATH_MAX];
    if (dir == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) return "";
    } else if (!of_fd(dir, base)[0]) {
        return "";
    }
    int size = snprintf(room, PATH_MAX, "%s/%s", base, path);
    return size > 0 ? room : "";
}

static int below(const char *path) {
    size_t size = strlen(control->folder);
    return strncmp(path, control->folder, size) == 0 && (path[size] == 0 || path[size] == '/');
}

/* What to do with this call, which reads or changes a file: -1 nothing, else an action. */
static int judged(int reads, const char *name, const char *path) {
    if (!control || !control->armed || control->reads != reads || !path || !path[0] || !below(path)) return -1;
    if (control->function[0] && !strstr(name, control->function)) return -1;
    if (control->file[0] && !strstr(path, control->file)) return -1;
    int64_t mine = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%lld\t%s\t%s\n", (long long)mine, name, path);
        if (size > 0) syscall(SYS_write, log_fd, line, (size_t)size < sizeof line ? (size_t)size : sizeof line);
    }
    if (!control->at || mine < control->at || (mine > control->at && control->once)) return -1;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    if (control->action == SHORT && mine > control->at) return FAIL;
    return (int)control->action;
}

static int judge(const char *name, const char *path) { return judged(0, name, path); }

static void die(void) {
    syscall(SYS_kill, (int)syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

/* A call that either happens or does not: a part of it is a failure. */
#define WHOLE(type, failed, name, path, call)                                       \
    do {                                                                            \
        int what = judge(name, path);                                               \
        if (what == FAIL || what == SHORT) { errno = (int)control->number; return failed; } \
        if (what == KILL_BEFORE) die();                                             \
        type result = (call);                                                       \
        if (what == KILL_INSIDE || what == KILL_AFTER) die();                       \
        return result;                                                              \
    } while (0)

/* A call that moves `size` bytes; `part` makes it with less. */
#define MOVING(name, path, size, whole, part)                                       \
    do {                                                                            \
        int what = judge(name, path);                                               \
        if (what == FAIL) { errno = (int)control->number; return -1; }              \
        if (what == KILL_BEFORE) die();                                             \
        if (what == SHORT || what == KILL_INSIDE) {                                 \
            size_t some = (size) / 2;                                               \
            ssize_t moved = some ? (part) : 0;                                      \
            if (what == KILL_INSIDE) die();                                         \
            if (moved > 0) return moved;                                            \
            errno = (int)control->number;                                           \
            return -1;                                                              \
        }                                                                           \
        ssize_t result = (whole);                                                   \
        if (what == KILL_AFTER) die();                                              \
        return result;                                                              \
    } while (0)

/* A call that reads: it fails or happens. */
#define READING(name, path, call)                                                   \
    do {                                                                            \
        if (judged(1, name, path) >= 0) { errno = (int)control->number; return -1; } \
        return (call);                                                              \
    } while (0)

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & O_CREAT))
#define MODE(flags)                                             \
    mode_t mode = 0;                                            \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                      \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode = va_arg(more, mode_t);                            \
        va_end(more);                                           \
    }

#define OPEN(name)                                                                                \
    int name(const char *path, int flags, ...) {                                                  \
        REAL(name);                                                                               \
        MODE(flags)                                                                               \
        char room[PATH_MAX];                                                                      \
        if (!WRITES(flags)) READING(#name, of_path(AT_FDCWD, path, room), real(path, flags, mode)); \
        WHOLE(int, -1, #name, of_path(AT_FDCWD, path, room), real(path, flags, mode));            \
    }
#define OPENAT(name)                                                                              \
    int name(int dir, const char *path, int flags, ...) {                                         \
        REAL(name);                                                                               \
        MODE(flags)                                                                               \
        char room[PATH_MAX];                                                                      \
        if (!WRITES(flags)) READING(#name, of_path(dir, path, room), real(dir, path, flags, mode)); \
        WHOLE(int, -1, #name, of_path(dir, path, room), real(dir, path, flags, mode));            \
    }
#define CREAT(name)                                                                               \
    int name(const char *path, mode_t mode) {                                                     \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        WHOLE(int, -1, #name, of_path(AT_FDCWD, path, room), real(path, mode));                   \
    }
#define FOPEN(name)                                                                               \
    FILE *name(const char *path, const char *mode) {                                              \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        if (mode[0] == 'r' && !strchr(mode, '+')) return real(path, mode);                        \
        WHOLE(FILE *, NULL, #name, of_path(AT_FDCWD, path, room), real(path, mode));              \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
CREAT(creat)
CREAT(creat64)
FOPEN(fopen)
FOPEN(fopen64)

ssize_t read(int fd, void *data, size_t size) {
    REAL(read);
    char room[PATH_MAX];
    if (!control || !control->armed || !control->reads) return real(fd, data, size);
    READING("read", of_fd(fd, room), real(fd, data, size));
}
#define PREAD(name, offset_type)                                                                  \
    ssize_t name(int fd, void *data, size_t size, offset_type from) {                             \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        if (!control || !control->armed || !control->reads) return real(fd, data, size, from);    \
        READING(#name, of_fd(fd, room), real(fd, data, size, from));                              \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    char room[PATH_MAX];
    if (!control || !control->armed) return real(fd, data, size);
    MOVING("write", of_fd(fd, room), size, real(fd, data, size), real(fd, data, some));
}
#define PWRITE(name, offset_type)                                                                 \
    ssize_t name(int fd, const void *data, size_t size, offset_type from) {                       \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        MOVING(#name, of_fd(fd, room), size, real(fd, data, size, from), real(fd, data, some, from)); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int k = 0; k < count; k++) sum += parts[k].iov_len;
    return sum;
}
/* The first part alone, or half of it where there is no other. */
static struct iovec beginning(const struct iovec *parts, int count) {
    struct iovec first = {NULL, 0};
    for (int k = 0; k < count && !first.iov_len; k++) first = parts[k];
    if (first.iov_len == total(parts, count)) first.iov_len /= 2;
    return first;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    char room[PATH_MAX];
    struct iovec first = beginning(parts, count);
    MOVING("writev", of_fd(fd, room), total(parts, count), real(fd, parts, count), real(fd, &first, 1));
}
#define PWRITEV(name, offset_type)                                                                \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type from) {                \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        struct iovec first = beginning(parts, count);                                             \
        MOVING(#name, of_fd(fd, room), total(parts, count), real(fd, parts, count, from), real(fd, &first, 1, from)); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned int flags) {
    REAL(copy_file_range);
    char room[PATH_MAX];
    if (control && control->reads) READING("copy_file_range", of_fd(in, room), real(in, in_at, out, out_at, size, flags));
    MOVING("copy_file_range", of_fd(out, room), size, real(in, in_at, out, out_at, size, flags),
           real(in, in_at, out, out_at, some, flags));
}
extern ssize_t sendfile(int, int, off_t *, size_t);
extern ssize_t sendfile64(int, int, off64_t *, size_t);
#define SENDFILE(name, offset_type)                                                               \
    ssize_t name(int out, int in, offset_type *at, size_t size) {                                 \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        if (control && control->reads) READING(#name, of_fd(in, room), real(out, in, at, size));  \
        MOVING(#name, of_fd(out, room), size, real(out, in, at, size), real(out, in, at, some));  \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

#define ON_FD(name, parameters, arguments)                                                        \
    int name parameters {                                                                         \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        WHOLE(int, -1, #name, of_fd(fd, room), real arguments);                                   \
    }
ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(fallocate, (int fd, int mode, off_t from, off_t size), (fd, mode, from, size))
ON_FD(fallocate64, (int fd, int mode, off64_t from, off64_t size), (fd, mode, from, size))

/* These return the error number and leave errno alone. */
#define ALLOCATE(name, offset_type)                                                               \
    int name(int fd, offset_type from, offset_type size) {                                        \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        WHOLE(int, (int)control->number, #name, of_fd(fd, room), real(fd, from, size));           \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

#define ON_PATH(name, path, parameters, arguments)                                                \
    int name parameters {                                                                         \
        REAL(name);                                                                               \
        char room[PATH_MAX];                                                                      \
        WHOLE(int, -1, #name, path, real arguments);                                              \
    }
#define HERE(path) of_path(AT_FDCWD, path, room)
#define AT(dir, path) of_path(dir, path, room)
/* Of two names the new one counts: that is where the change is seen. */
ON_PATH(rename, HERE(to), (const char *from, const char *to), (from, to))
ON_PATH(renameat, AT(to_dir, to), (int from_dir, const char *from, int to_dir, const char *to), (from_dir, from, to_dir, to))
ON_PATH(renameat2, AT(to_dir, to), (int from_dir, const char *from, int to_dir, const char *to, unsigned int flags),
        (from_dir, from, to_dir, to, flags))
ON_PATH(link, HERE(to), (const char *from, const char *to), (from, to))
ON_PATH(linkat, AT(to_dir, to), (int from_dir, const char *from, int to_dir, const char *to, int flags),
        (from_dir, from, to_dir, to, flags))
ON_PATH(symlink, HERE(to), (const char *from, const char *to), (from, to))
ON_PATH(symlinkat, AT(dir, to), (const char *from, int dir, const char *to), (from, dir, to))
ON_PATH(unlink, HERE(path), (const char *path), (path))
ON_PATH(unlinkat, AT(dir, path), (int dir, const char *path, int flags), (dir, path, flags))
ON_PATH(rmdir, HERE(path), (const char *path), (path))
ON_PATH(mkdir, HERE(path), (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, AT(dir, path), (int dir, const char *path, mode_t mode), (dir, path, mode))
ON_PATH(truncate, HERE(path), (const char *path, off_t size), (path, size))
ON_PATH(truncate64, HERE(path), (const char *path, off64_t size), (path, size))

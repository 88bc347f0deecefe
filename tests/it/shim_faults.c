/* Loaded before the C library (LD_PRELOAD), it stands between a process and the files below one folder, whoever in the process asks for
   them: Rust's standard library and SQLite alike. Every call that can change what a disk holds is counted: writes, syncs, cuts, renames,
   removals, new files and folders. The count is shared by all processes that are started with the same counter file.

   DBELAY_FAULT          MODE:N, what happens at the N-th call; with N = 0 it is only counted
       kill              the process dies before it
       tear              the process dies after half of it; writes only are counted
       eio               it fails with EIO; those after it do not
       full              it fails with ENOSPC, and so does all that takes room after it; only what takes room is counted
       trace             nothing happens, and everything is written to DBELAY_FAULT_TRACE
   DBELAY_FAULT_BELOW    the folder
   DBELAY_FAULT_COUNTER  a file of 16 bytes or more: the count, and whose turn it is

   A line of a trace is one of these; numbers are inodes, offsets and lengths, what is written follows its line:
       C inode path    W inode offset length    T inode length    S inode    D folder    R from TAB to    L from TAB to    U path
       M path    X path */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, KILL, TEAR, IO_ERROR, FULL, TRACE };
enum kind { WRITES = 1, TAKES_ROOM = 2, OTHER = 4 };
enum fate { GO_ON, FAIL, HALF };

#define PATH_BYTES 4096

static enum mode mode = OFF;
static uint64_t at = 0;
static char below[PATH_BYTES];
static size_t below_bytes = 0;
static int trace = -1;
static struct { uint64_t calls; int32_t turn; int32_t unused; } *shared;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *what = getenv("DBELAY_FAULT"), *folder = getenv("DBELAY_FAULT_BELOW"), *counter = getenv("DBELAY_FAULT_COUNTER");
    if (!what || !folder || !counter) return;
    int file = (int)syscall(SYS_openat, AT_FDCWD, counter, O_RDWR | O_CLOEXEC, 0);
    if (file < 0) return;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED) return;
    below_bytes = strlen(folder);
    if (below_bytes >= sizeof below) return;
    memcpy(below, folder, below_bytes + 1);
    static const char *names[] = {"off", "kill", "tear", "eio", "full", "trace"};
    for (int known = KILL; known <= TRACE; known++) {
        size_t length = strlen(names[known]);
        if (strncmp(what, names[known], length) == 0 && what[length] == ':') {
            at = strtoull(what + length + 1, NULL, 10);
            mode = (enum mode)known;
        }
    }
    const char *to = getenv("DBELAY_FAULT_TRACE");
    if (mode == TRACE && to) trace = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int is_below(const char *path) {
    if (mode == OFF || strncmp(path, below, below_bytes) != 0 || path[below_bytes] != '/') return 0;
    /* What SQLite shares between processes in memory is no part of what a disk must keep. */
    size_t length = strlen(path);
    return length < 4 || strcmp(path + length - 4, "-shm") != 0;
}

static int path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_BYTES - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int is_file_below(int file, char *path) {
    int before = errno;
    int found = mode != OFF && path_of(file, path) && is_below(path);
    errno = before;
    return found;
}

/* Writes the whole name of what a call names; tells whether it is one of ours. */
static int whole(int folder, const char *name, char *path) {
    if (mode == OFF || !name) return 0;
    int before = errno;
    size_t length = 0;
    if (name[0] != '/') {
        if (folder == AT_FDCWD ? !getcwd(path, PATH_BYTES) : !path_of(folder, path)) { errno = before; return 0; }
        length = strlen(path);
        path[length++] = '/';
    }
    errno = before;
    if (length + strlen(name) >= PATH_BYTES) return 0;
    strcpy(path + length, name);
    return is_below(path);
}

static enum fate fate_of(int kind) {
    if (mode == OFF || mode == TRACE) return GO_ON;
    if (mode == FULL && !(kind & TAKES_ROOM)) return GO_ON;
    if (mode == TEAR && !(kind & WRITES)) return GO_ON;
    uint64_t call = __atomic_add_fetch(&shared->calls, 1, __ATOMIC_SEQ_CST);
    if (at == 0 || (mode == FULL ? call < at : call != at)) return GO_ON;
    if (mode == TEAR) return HALF;
    if (mode == KILL) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = mode == FULL ? ENOSPC : EIO;
    return FAIL;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* The calls of a trace stand in it in the order in which they were done. */
static void take_turn(void) {
    int32_t nobody = 0;
    if (mode != TRACE) return;
    while (!__atomic_compare_exchange_n(&shared->turn, &nobody, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) { nobody = 0; sched_yield(); }
}

static void end_turn(void) {
    if (mode == TRACE) __atomic_store_n(&shared->turn, 0, __ATOMIC_SEQ_CST);
}

static void put(const void *bytes, size_t length) {
    while (length > 0) {
        ssize_t done = syscall(SYS_write, trace, bytes, length);
        if (done <= 0) return;
        bytes = (const char *)bytes + done;
        length -= (size_t)done;
    }
}

static void record(const char *format, ...) {
    if (mode != TRACE || trace < 0) return;
    char line[2 * PATH_BYTES + 64];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (length > 0) put(line, (size_t)length);
}

static unsigned long inode(int file) {
    struct stat status;
    return fstat(file, &status) == 0 && status.st_nlink > 0 ? (unsigned long)status.st_ino : 0;
}

/* Records what was written to a file that has a name. */
static void record_write(int file, const struct iovec *parts, int count, off_t where, ssize_t done) {
    int before = errno;
    unsigned long number = mode == TRACE && done > 0 ? inode(file) : 0;
    if (number) {
        record("W %lu %lld %zd\n", number, (long long)where, done);
        size_t left = (size_t)done;
        for (int part = 0; part < count && left > 0; part++) {
            size_t length = parts[part].iov_len < left ? parts[part].iov_len : left;
            put(parts[part].iov_base, length);
            left -= length;
        }
    }
    errno = before;
}

/* Writes at a place, or where the file stands (-1). */
static ssize_t write_parts(int file, const struct iovec *parts, int count, off_t where) {
    __typeof__(&writev) onward = REAL(writev);
    __typeof__(&pwritev64) at_place = REAL(pwritev64);
    char path[PATH_BYTES];
    if (!is_file_below(file, path)) return where < 0 ? onward(file, parts, count) : at_place(file, parts, count, where);
    switch (fate_of(WRITES | TAKES_ROOM)) {
    case FAIL: return -1;
    case HALF: {
        size_t half = parts[0].iov_len / 2;
        if (where < 0) syscall(SYS_write, file, parts[0].iov_base, half);
        else syscall(SYS_pwrite64, file, parts[0].iov_base, half, where);
        die();
    }
    case GO_ON: break;
    }
    take_turn();
    off_t place = where;
    if (where < 0 && mode == TRACE) {
        struct stat status;
        place = (fcntl(file, F_GETFL) & O_APPEND) && fstat(file, &status) == 0 ? status.st_size : lseek(file, 0, SEEK_CUR);
    }
    ssize_t done = where < 0 ? onward(file, parts, count) : at_place(file, parts, count, where);
    record_write(file, parts, count, place, done);
    end_turn();
    return done;
}

ssize_t write(int file, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    return write_parts(file, &part, 1, -1);
}
ssize_t pwrite(int file, const void *bytes, size_t length, off_t where) {
    struct iovec part = {(void *)bytes, length};
    return write_parts(file, &part, 1, where);
}
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t where) {
    struct iovec part = {(void *)bytes, length};
    return write_parts(file, &part, 1, where);
}
ssize_t writev(int file, const struct iovec *parts, int count) { return write_parts(file, parts, count, -1); }
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t where) { return write_parts(file, parts, count, where); }
ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t where) { return write_parts(file, parts, count, where); }

/* Whoever would have the system copy does it by reading and writing then. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    char path[PATH_BYTES];
    if (is_file_below(to, path)) { errno = ENOSYS; return -1; }
    return REAL(copy_file_range)(from, from_at, to, to_at, length, flags);
}
ssize_t sendfile64(int to, int from, off64_t *from_at, size_t length) {
    char path[PATH_BYTES];
    if (is_file_below(to, path)) { errno = ENOSYS; return -1; }
    return REAL(sendfile64)(to, from, from_at, length);
}

static int sync_file(int file, int (*real)(int)) {
    char path[PATH_BYTES];
    if (!is_file_below(file, path)) {
        /* The folder itself is not below itself, and is synced as those below it are. */
        if (mode == OFF || !path_of(file, path) || strcmp(path, below) != 0) return real(file);
    }
    if (fate_of(OTHER) == FAIL) return -1;
    take_turn();
    int result = real(file), before = errno;
    struct stat status;
    if (mode == TRACE && result == 0 && fstat(file, &status) == 0) {
        if (S_ISDIR(status.st_mode)) record("D %s\n", path);
        else if (inode(file)) record("S %lu\n", inode(file));
    }
    errno = before;
    end_turn();
    return result;
}
int fsync(int file) { return sync_file(file, REAL(fsync)); }
int fdatasync(int file) { return sync_file(file, REAL(fdatasync)); }

int ftruncate64(int file, off64_t length) {
    __typeof__(&ftruncate64) real = REAL(ftruncate64);
    char path[PATH_BYTES];
    if (!is_file_below(file, path)) return real(file, length);
    struct stat status;
    int grows = fstat(file, &status) == 0 && status.st_size < length;
    if (fate_of(grows ? TAKES_ROOM : OTHER) == FAIL) return -1;
    take_turn();
    int result = real(file, length), before = errno;
    if (result == 0 && mode == TRACE && inode(file)) record("T %lu %lld\n", inode(file), (long long)length);
    errno = before;
    end_turn();
    return result;
}
int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int open_any(int folder, const char *name, int flags, mode_t permissions) {
    __typeof__(&openat64) real = REAL(openat64);
    char path[PATH_BYTES];
    struct stat status;
    if (!(flags & (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))) || !whole(folder, name, path)) return real(folder, name, flags, permissions);
    int before = errno;
    take_turn();
    int is_there = fstatat(folder, name, &status, 0) == 0;
    errno = before;
    int changes = (flags & O_TRUNC) || !is_there || (flags & O_TMPFILE) == O_TMPFILE;
    if (changes && fate_of(is_there && (flags & O_TMPFILE) != O_TMPFILE ? OTHER : TAKES_ROOM) == FAIL) { end_turn(); return -1; }
    int file = real(folder, name, flags, permissions);
    before = errno;
    if (file >= 0 && mode == TRACE && inode(file)) {
        if (!is_there) record("C %lu %s\n", inode(file), path);
        else if (flags & O_TRUNC) record("T %lu 0\n", inode(file));
    }
    errno = before;
    end_turn();
    return file;
}

#define PERMISSIONS                                                      \
    mode_t permissions = 0;                                              \
    if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                \
        va_list list;                                                    \
        va_start(list, flags);                                           \
        permissions = (mode_t)va_arg(list, int);                         \
        va_end(list);                                                    \
    }

int open(const char *name, int flags, ...) { PERMISSIONS return open_any(AT_FDCWD, name, flags, permissions); }
int open64(const char *name, int flags, ...) { PERMISSIONS return open_any(AT_FDCWD, name, flags, permissions); }
int openat(int folder, const char *name, int flags, ...) { PERMISSIONS return open_any(folder, name, flags, permissions); }
int openat64(int folder, const char *name, int flags, ...) { PERMISSIONS return open_any(folder, name, flags, permissions); }

/* Names that appear and go. */
#define NAMED(kind, whole_name, call, ...)                               \
    do {                                                                 \
        char path[PATH_BYTES];                                           \
        if (!(whole_name)) return call;                                  \
        if (fate_of(kind) == FAIL) return -1;                            \
        take_turn();                                                     \
        int result = call, before = errno;                               \
        if (result == 0) record(__VA_ARGS__);                            \
        errno = before;                                                  \
        end_turn();                                                      \
        return result;                                                   \
    } while (0)

int unlink(const char *name) { NAMED(OTHER, whole(AT_FDCWD, name, path), REAL(unlink)(name), "U %s\n", path); }
int rmdir(const char *name) { NAMED(OTHER, whole(AT_FDCWD, name, path), REAL(rmdir)(name), "X %s\n", path); }
int unlinkat(int folder, const char *name, int flags) {
    NAMED(OTHER, whole(folder, name, path), REAL(unlinkat)(folder, name, flags), "%c %s\n", flags & AT_REMOVEDIR ? 'X' : 'U', path);
}
int mkdir(const char *name, mode_t permissions) {
    NAMED(TAKES_ROOM, whole(AT_FDCWD, name, path), REAL(mkdir)(name, permissions), "M %s\n", path);
}
int mkdirat(int folder, const char *name, mode_t permissions) {
    NAMED(TAKES_ROOM, whole(folder, name, path), REAL(mkdirat)(folder, name, permissions), "M %s\n", path);
}
int rename(const char *from, const char *to) {
    char target[PATH_BYTES];
    NAMED(TAKES_ROOM, whole(AT_FDCWD, from, path) && whole(AT_FDCWD, to, target), REAL(rename)(from, to), "R %s\t%s\n", path, target);
}
int link(const char *from, const char *to) {
    char target[PATH_BYTES];
    NAMED(TAKES_ROOM, whole(AT_FDCWD, from, path) && whole(AT_FDCWD, to, target), REAL(link)(from, to), "L %s\t%s\n", path, target);
}
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char target[PATH_BYTES];
    NAMED(TAKES_ROOM, whole(from_folder, from, path) && whole(to_folder, to, target), REAL(linkat)(from_folder, from, to_folder, to, flags), "L %s\t%s\n", path, target);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    char target[PATH_BYTES];
    NAMED(TAKES_ROOM, whole(from_folder, from, path) && whole(to_folder, to, target), REAL(renameat)(from_folder, from, to_folder, to), "R %s\t%s\n", path, target);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char target[PATH_BYTES];
    NAMED(TAKES_ROOM, whole(from_folder, from, path) && whole(to_folder, to, target), REAL(renameat2)(from_folder, from, to_folder, to, flags), "R %s\t%s\n", path, target);
}

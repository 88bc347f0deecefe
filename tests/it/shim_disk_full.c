/* Loaded before the C library (LD_PRELOAD), it makes the disk full: the n-th write to a file, n being DBELAY_SHIM_FULL_AT, and every
   one after it fails with ENOSPC. Writes to terminals and pipes are let through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_full(int file) {
    static long left = -1;
    struct stat status;
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    if (left < 0) {
        const char *text = getenv("DBELAY_SHIM_FULL_AT");
        left = text ? atol(text) : 1000000000L;
    }
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    __atomic_store_n(&left, 1, __ATOMIC_SEQ_CST);
    errno = ENOSPC;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t length) { return is_full(file) ? -1 : REAL(write)(file, bytes, length); }
ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) { return is_full(file) ? -1 : REAL(pwrite)(file, bytes, length, at); }
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) { return is_full(file) ? -1 : REAL(pwrite64)(file, bytes, length, at); }
ssize_t writev(int file, const struct iovec *parts, int count) { return is_full(file) ? -1 : REAL(writev)(file, parts, count); }

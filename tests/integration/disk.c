/* A disk that a test can read back step by step, and that fails when told to. Loaded with LD_PRELOAD.

   Whatever a program does to files under the folder DISK_FOLDER is written to DISK_LOG, in order: a header (kind,
   length of the path, offset, length of the data), the path, the data. Kinds: w(rite), s(ync), t(runcate), u(nlink).
   disk_fail(after, error, times): the next `after` operations work, then `times` of them fail with errno `error`
   (-1: all); the first of them that writes is cut in half instead, as by a disk that fills up.
   With DISK_READ_ONLY no file under the folder can be opened for writing. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct __attribute__((packed)) header {
    char kind;
    uint16_t path_bytes;
    uint64_t offset;
    uint32_t data_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long fail_after = LONG_MAX, fail_times, operations;
static int fail_error, torn;

void disk_fail(long after, int error, long times) {
    pthread_mutex_lock(&lock);
    fail_after = after, fail_error = error, fail_times = times, torn = 0;
    pthread_mutex_unlock(&lock);
}

long disk_operations(void) { return operations; }

/* The path, if it is one of ours; else NULL. */
static const char *ours(const char *path) {
    const char *folder = getenv("DISK_FOLDER");
    return folder && strncmp(path, folder, strlen(folder)) == 0 ? path : NULL;
}

static const char *opened(int fd, char *path) {
    char link[64] = "/proc/self/fd/";
    char digits[16];
    int length = 0;
    do
        digits[length++] = '0' + fd % 10;
    while (fd /= 10);
    char *end = link + strlen(link);
    while (length)
        *end++ = digits[--length];
    *end = 0;
    ssize_t found = readlink(link, path, PATH_MAX - 1);
    if (found < 0)
        return NULL;
    path[found] = 0;
    return ours(path);
}

static int fails(void) {
    operations++;
    if (fail_after > 0 || fail_times == 0) {
        fail_after--;
        return 0;
    }
    if (fail_times > 0)
        fail_times--;
    return 1;
}

static void told(char kind, const char *path, uint64_t offset, const void *data, uint32_t bytes) {
    static int log = -1;
    if (!getenv("DISK_LOG"))
        return;
    if (log < 0)
        log = syscall(SYS_openat, AT_FDCWD, getenv("DISK_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct header header = {kind, strlen(path), offset, bytes};
    syscall(SYS_write, log, &header, sizeof header);
    syscall(SYS_write, log, path, strlen(path));
    if (data)
        syscall(SYS_write, log, data, bytes);
}

static ssize_t wrote(int fd, const void *data, size_t bytes, off_t offset, int placed) {
    char room[PATH_MAX];
    const char *path = opened(fd, room);
    if (!path)
        return placed ? syscall(SYS_pwrite64, fd, data, bytes, offset) : syscall(SYS_write, fd, data, bytes);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    int error = 0;
    if (fails()) {
        error = fail_error;
        if (!torn && bytes > 1) {
            torn = 1, error = 0, bytes /= 2;
            fail_times += fail_times >= 0; /* this was not one yet */
        }
    }
    if (!error) {
        if (!placed)
            offset = lseek(fd, 0, SEEK_CUR);
        done = placed ? syscall(SYS_pwrite64, fd, data, bytes, offset) : syscall(SYS_write, fd, data, bytes);
        error = errno;
        if (done > 0)
            told('w', path, offset, data, done);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

static int did(char kind, int fd, const char *path, off_t bytes) {
    pthread_mutex_lock(&lock);
    int done = -1, error = fail_error;
    if (!fails()) {
        if (kind == 's')
            done = syscall(SYS_fdatasync, fd);
        else if (kind == 't')
            done = syscall(SYS_ftruncate, fd, bytes);
        else
            done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        error = errno;
        if (done == 0)
            told(kind, path, bytes, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return wrote(fd, data, bytes, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) { return wrote(fd, data, bytes, offset, 1); }
ssize_t write(int fd, const void *data, size_t bytes) { return wrote(fd, data, bytes, 0, 0); }

int fdatasync(int fd) {
    char path[PATH_MAX];
    return opened(fd, path) ? did('s', fd, path, 0) : syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    char path[PATH_MAX];
    return opened(fd, path) ? did('s', fd, path, 0) : syscall(SYS_fsync, fd);
}

int ftruncate(int fd, off_t bytes) {
    char path[PATH_MAX];
    return opened(fd, path) ? did('t', fd, path, bytes) : syscall(SYS_ftruncate, fd, bytes);
}
int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }

int unlink(const char *path) {
    return ours(path) ? did('u', -1, path, 0) : syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int opens(const char *path, int flags, mode_t mode) {
    if (ours(path) && getenv("DISK_READ_ONLY") && flags & (O_WRONLY | O_RDWR | O_CREAT)) {
        errno = EROFS;
        return -1;
    }
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opens(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opens(path, flags, mode);
}

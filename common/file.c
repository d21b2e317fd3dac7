/* SPDX-License-Identifier: Apache-2.0 */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"

#define FIRST_BYTES ((size_t)64 << 10) /* read at first where the size is not known */
/* bytes of one call; Linux moves at most 2 GiB - 4 KiB */
#define IO_MOST ((size_t)1 << 30)
#define TEMP_TRIES 100
/* of the file's name that a temporary name repeats: NAME_MAX is 255 */
#define TEMP_NAME_CHARS 200

/* --- reading ---------------------------------------------------------------------- */

struct buffer {
    uint8_t *at;
    size_t n, room; /* one byte more than room is there */
};

static enum sl_code grow(struct buffer *b, size_t room, const char *path,
                         struct sl_err *err)
{
    size_t bytes;
    uint8_t *at = sl_size_add(room, 1, &bytes) ? realloc(b->at, bytes) : NULL;
    if (at == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu bytes", path, room);
    b->at = at;
    b->room = room;
    return SL_OK;
}

static enum sl_code too_large(const char *path, size_t max_bytes, struct sl_err *err)
{
    return sl_err_set(err, SL_E_LIMIT, "%s: larger than the %zu bytes allowed", path,
                      max_bytes);
}

/* Reads to the end. The size that fstat told is only a first guess: files grow, and those
 * of /proc tell 0. The byte behind `room` takes what shows that there is more than was
 * expected. */
static enum sl_code read_all(int fd, const char *path, size_t max_bytes, struct buffer *b,
                             struct sl_err *err)
{
    for (;;) {
        size_t want = b->room + 1 - b->n;
        ssize_t got = read(fd, b->at + b->n, want < IO_MOST ? want : IO_MOST);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sl_err_errno(err, errno, "%s", path);
        if (got == 0)
            return SL_OK;
        b->n += (size_t)got;
        if (b->n <= b->room)
            continue;
        if (b->n > max_bytes)
            return too_large(path, max_bytes, err);
        size_t room = b->room > max_bytes / 2 ? max_bytes : 2 * b->room;
        enum sl_code rc = grow(b, room, path, err);
        if (rc != SL_OK)
            return rc;
    }
}

static enum sl_code read_open(int fd, const char *path, size_t max_bytes,
                              struct buffer *b, struct sl_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return sl_err_errno(err, errno, "%s", path);
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > max_bytes)
        return too_large(path, max_bytes, err);
    size_t first =
        S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : FIRST_BYTES;
    enum sl_code rc = grow(b, first < max_bytes ? first : max_bytes, path, err);
    return rc == SL_OK ? read_all(fd, path, max_bytes, b, err) : rc;
}

enum sl_code sl_file_read(const char *path, size_t max_bytes, uint8_t **ret,
                          size_t *ret_n, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return sl_err_errno(err, errno, "%s", path);
    struct buffer b = {0};
    enum sl_code rc = read_open(fd, path, max_bytes, &b, err);
    close(fd);
    if (rc != SL_OK) {
        free(b.at);
        return rc;
    }
    b.at[b.n] = 0;
    *ret = b.at;
    *ret_n = b.n;
    return SL_OK;
}

enum sl_code sl_file_pread(int fd, const char *path, void *ret, size_t n, uint64_t offset,
                           struct sl_err *err)
{
    if (offset > INT64_MAX || n > INT64_MAX - offset)
        return sl_err_set(err, SL_E_RANGE, "%s: offset beyond 2^63", path);
    uint8_t *to = ret;
    while (n > 0) {
        ssize_t got = pread(fd, to, n < IO_MOST ? n : IO_MOST, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sl_err_errno(err, errno, "%s", path);
        if (got == 0)
            return sl_err_set(err, SL_E_INPUT, "%s: ends %zu bytes too early", path, n);
        to += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return SL_OK;
}

/* --- writing ---------------------------------------------------------------------- */

enum sl_code sl_file_pwrite(int fd, const char *path, const void *data, size_t n,
                            uint64_t offset, struct sl_err *err)
{
    if (offset > INT64_MAX || n > INT64_MAX - offset)
        return sl_err_set(err, SL_E_RANGE, "%s: offset beyond 2^63", path);
    const uint8_t *from = data;
    while (n > 0) {
        ssize_t put = pwrite(fd, from, n < IO_MOST ? n : IO_MOST, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return sl_err_errno(err, put < 0 ? errno : ENOSPC, "%s", path);
        from += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return SL_OK;
}

/* Length of the path up to and with its last slash; 0 when there is none. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

/* Creates ".NAME.PID.K.tmp" beside `path`, which no other process and no other thread
 * opens. */
static enum sl_code create_temp(const char *path, char temp[PATH_MAX], int *ret_fd,
                                struct sl_err *err)
{
    size_t folder = folder_length(path);
    for (unsigned k = 0; k < TEMP_TRIES; k++) {
        int n = snprintf(temp, PATH_MAX, "%.*s.%.*s.%ld.%u.tmp", (int)folder, path,
                         TEMP_NAME_CHARS, path + folder, (long)getpid(), k);
        if (n < 0 || n >= PATH_MAX)
            return sl_err_set(err, SL_E_LIMIT, "path longer than %d bytes", PATH_MAX);
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd >= 0) {
            *ret_fd = fd;
            return SL_OK;
        }
        if (errno != EEXIST)
            break;
    }
    return sl_err_errno(err, errno, "%s", path);
}

/* close() may be the first to tell that a network or quota disk is full. */
static enum sl_code fill(int fd, const char *path, const void *data, size_t n, bool sync,
                         struct sl_err *err)
{
    enum sl_code rc = sl_file_pwrite(fd, path, data, n, 0, err);
    if (rc == SL_OK && sync && fsync(fd) != 0)
        rc = sl_err_errno(err, errno, "%s", path);
    if (close(fd) != 0 && rc == SL_OK)
        rc = sl_err_errno(err, errno, "%s", path);
    return rc;
}

enum sl_code sl_file_write_atomic(const char *path, const void *data, size_t n, bool sync,
                                  struct sl_err *err)
{
    char temp[PATH_MAX];
    int fd = -1;
    enum sl_code rc = create_temp(path, temp, &fd, err);
    if (rc != SL_OK)
        return rc;
    rc = fill(fd, path, data, n, sync, err);
    if (rc == SL_OK && rename(temp, path) != 0)
        rc = sl_err_errno(err, errno, "%s", path);
    if (rc != SL_OK) {
        unlink(temp);
        return rc;
    }
    if (!sync)
        return SL_OK;
    size_t folder = folder_length(path);
    snprintf(temp, sizeof(temp), "%.*s", (int)folder, path);
    return sl_dir_sync(folder == 0 ? "." : temp, err);
}

/* --- locks and folders ------------------------------------------------------------ */

enum sl_code sl_file_lock(const char *path, int *ret_fd, struct sl_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sl_err_errno(err, errno, "%s", path);
    int rc;
    do
        rc = flock(fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        int why = errno;
        close(fd);
        return why == EWOULDBLOCK
                   ? sl_err_set(err, SL_E_EXISTS, "%s: in use by another process", path)
                   : sl_err_errno(err, why, "%s", path);
    }
    *ret_fd = fd;
    return SL_OK;
}

static enum sl_code make_one(const char *path, unsigned mode, struct sl_err *err)
{
    struct stat st;
    if (mkdir(path, (mode_t)mode) == 0)
        return SL_OK;
    int why = errno;
    if (why == EEXIST && stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? SL_OK : sl_err_errno(err, ENOTDIR, "%s", path);
    return sl_err_errno(err, why, "%s", path);
}

enum sl_code sl_dir_make(const char *path, unsigned mode, struct sl_err *err)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(part))
        return sl_err_set(err, SL_E_RANGE, "path of %zu bytes (1 to %zu allowed)", n,
                          sizeof(part) - 1);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (part[i] != '/')
            continue;
        part[i] = '\0';
        enum sl_code rc = make_one(part, mode, err);
        if (rc != SL_OK)
            return rc;
        part[i] = '/';
    }
    return make_one(part, mode, err);
}

enum sl_code sl_dir_sync(const char *path, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return sl_err_errno(err, errno, "%s", path);
    enum sl_code rc = fsync(fd) == 0 ? SL_OK : sl_err_errno(err, errno, "%s", path);
    close(fd);
    return rc;
}

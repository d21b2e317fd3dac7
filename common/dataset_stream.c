/* SPDX-License-Identifier: Apache-2.0 */
#include "common/dataset_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "common/mem.h"

#define INPUT_BYTES 16384
#define SKIP_BYTES 4096
#define GZIP_WINDOW (15 + 16) /* zlib: largest window, gzip wrapper */
#define DEFLATE_RATIO 1032    /* a match of 258 bytes takes 2 bits or more */

/* Fills the input from the file when it is empty. */
static enum sl_code refill(struct sl_stream *s, struct sl_err *err)
{
    if (s->left > 0 || s->end_of_input)
        return SL_OK;
    if (s->fd < 0) {
        s->end_of_input = true;
        return SL_OK;
    }
    ssize_t got;
    do
        got = read(s->fd, s->buffer, INPUT_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return sl_err_errno(err, errno, "%s: read", s->where);
    s->end_of_input = got == 0;
    s->next = s->buffer;
    s->left = (size_t)got;
    return SL_OK;
}

static enum sl_code start_gzip(struct sl_stream *s, struct sl_err *err)
{
    if (s->left < 2 || s->next[0] != 0x1f || s->next[1] != 0x8b)
        return SL_OK;
    z_stream *z = sl_calloc(1, sizeof(*z));
    if (z == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: no memory to inflate", s->where);
    if (inflateInit2(z, GZIP_WINDOW) != Z_OK) {
        free(z);
        return sl_err_set(err, SL_E_NOMEM, "%s: no memory to inflate", s->where);
    }
    s->inflate = z;
    s->most = s->most > UINT64_MAX / DEFLATE_RATIO ? UINT64_MAX : s->most * DEFLATE_RATIO;
    return SL_OK;
}

enum sl_code sl_stream_open_memory(const char *where, const uint8_t *bytes, size_t n,
                                   struct sl_stream *ret, struct sl_err *err)
{
    struct sl_stream s = {.where = where, .fd = -1, .next = bytes, .left = n, .most = n};
    enum sl_code rc = start_gzip(&s, err);
    if (rc == SL_OK)
        *ret = s;
    return rc;
}

enum sl_code sl_stream_open_file(const char *path, struct sl_stream *ret,
                                 struct sl_err *err)
{
    struct sl_stream s = {.where = path};
    s.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s.fd < 0)
        return sl_err_errno(err, errno, "%s", path);
    struct stat st;
    bool sized = fstat(s.fd, &st) == 0 && S_ISREG(st.st_mode);
    s.most = sized ? (uint64_t)st.st_size : UINT64_MAX;
    enum sl_code rc = SL_OK;
    s.buffer = sl_calloc(1, INPUT_BYTES);
    if (s.buffer == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "%s: no memory to read", path);
    if (rc == SL_OK)
        rc = refill(&s, err);
    if (rc == SL_OK)
        rc = start_gzip(&s, err);
    if (rc != SL_OK) {
        sl_stream_close(&s);
        return rc;
    }
    *ret = s;
    return SL_OK;
}

void sl_stream_close(struct sl_stream *s)
{
    if (s == NULL)
        return;
    if (s->inflate != NULL) {
        inflateEnd(s->inflate);
        free(s->inflate);
    }
    if (s->buffer != NULL || s->fd > 0)
        close(s->fd);
    free(s->buffer);
    *s = (struct sl_stream){.fd = -1};
}

static enum sl_code read_plain(struct sl_stream *s, uint8_t *to, size_t n, size_t *ret_n,
                               struct sl_err *err)
{
    size_t done = 0;
    while (done < n) {
        enum sl_code rc = refill(s, err);
        if (rc != SL_OK)
            return rc;
        if (s->left == 0)
            break;
        size_t some = n - done < s->left ? n - done : s->left;
        memcpy(to + done, s->next, some);
        s->next += some;
        s->left -= some;
        done += some;
    }
    *ret_n = done;
    return SL_OK;
}

/* One call of inflate into to[0..n-1]; *ret_n says what came out. */
static enum sl_code inflate_some(struct sl_stream *s, uint8_t *to, size_t n,
                                 size_t *ret_n, struct sl_err *err)
{
    z_stream *z = s->inflate;
    z->next_in = (uint8_t *)(uintptr_t)s->next;
    z->avail_in = s->left < UINT_MAX ? (unsigned)s->left : UINT_MAX;
    z->next_out = to;
    z->avail_out = n < UINT_MAX ? (unsigned)n : UINT_MAX;
    unsigned in = z->avail_in, out = z->avail_out;
    int r = inflate(z, Z_NO_FLUSH);
    s->next += in - z->avail_in;
    s->left -= in - z->avail_in;
    *ret_n = out - z->avail_out;
    if (r == Z_STREAM_END) {
        s->between = true;
        return SL_OK;
    }
    if (r == Z_OK || r == Z_BUF_ERROR)
        return SL_OK;
    if (r == Z_MEM_ERROR)
        return sl_err_set(err, SL_E_NOMEM, "%s: no memory to inflate", s->where);
    return sl_err_set(err, SL_E_INPUT, "%s: broken gzip data (%s)", s->where,
                      z->msg != NULL ? z->msg : "a preset dictionary");
}

static enum sl_code read_gzip(struct sl_stream *s, uint8_t *to, size_t n, size_t *ret_n,
                              struct sl_err *err)
{
    size_t done = 0;
    while (done < n) {
        enum sl_code rc = refill(s, err);
        if (rc != SL_OK)
            return rc;
        if (s->left == 0 && s->between)
            break;
        if (s->between) { /* a file may hold several gzip members, RFC 1952 section 2.2 */
            inflateReset(s->inflate);
            s->between = false;
        }
        size_t some = 0, before = s->left;
        rc = inflate_some(s, to + done, n - done, &some, err);
        if (rc != SL_OK)
            return rc;
        done += some;
        if (some == 0 && s->left == before && s->end_of_input && !s->between)
            return sl_err_set(err, SL_E_INPUT, "%s: truncated gzip data", s->where);
    }
    *ret_n = done;
    return SL_OK;
}

enum sl_code sl_stream_read(struct sl_stream *s, void *to, size_t n, size_t *ret_n,
                            struct sl_err *err)
{
    if (s->inflate == NULL)
        return read_plain(s, to, n, ret_n, err);
    return read_gzip(s, to, n, ret_n, err);
}

enum sl_code sl_stream_exact(struct sl_stream *s, void *to, size_t n, const char *what,
                             struct sl_err *err)
{
    size_t got;
    enum sl_code rc = sl_stream_read(s, to, n, &got, err);
    if (rc != SL_OK)
        return rc;
    if (got < n)
        return sl_err_set(err, SL_E_INPUT, "%s: truncated at %s", s->where, what);
    return SL_OK;
}

enum sl_code sl_stream_can_hold(const struct sl_stream *s, uint64_t n, const char *what,
                                struct sl_err *err)
{
    if (n > s->most)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: truncated at %s: %" PRIu64
                          " bytes announced, room for %" PRIu64,
                          s->where, what, n, s->most);
    return SL_OK;
}

enum sl_code sl_stream_skip(struct sl_stream *s, uint64_t n, const char *what,
                            struct sl_err *err)
{
    uint8_t scratch[SKIP_BYTES];
    while (n > 0) {
        size_t some = n < sizeof(scratch) ? (size_t)n : sizeof(scratch);
        enum sl_code rc = sl_stream_exact(s, scratch, some, what, err);
        if (rc != SL_OK)
            return rc;
        n -= some;
    }
    return SL_OK;
}

enum sl_code sl_stream_expect_end(struct sl_stream *s, struct sl_err *err)
{
    uint8_t more;
    size_t got;
    enum sl_code rc = sl_stream_read(s, &more, 1, &got, err);
    if (rc != SL_OK)
        return rc;
    if (got > 0)
        return sl_err_set(err, SL_E_INPUT, "%s: bytes after the last sample", s->where);
    return SL_OK;
}

enum sl_code sl_stream_rest(struct sl_stream *s, size_t max_bytes, uint8_t **ret,
                            size_t *ret_n, struct sl_err *err)
{
    uint8_t *bytes = NULL;
    size_t n = 0, capacity = 0;
    for (;;) {
        if (n == capacity) {
            if (capacity > max_bytes) {
                free(bytes);
                return sl_err_set(err, SL_E_LIMIT, "%s: more than %zu bytes", s->where,
                                  max_bytes);
            }
            /* one byte beyond the limit, to see that there is more */
            capacity = capacity == 0 ? INPUT_BYTES : 2 * capacity;
            if (capacity > max_bytes)
                capacity = max_bytes + 1;
            uint8_t *more = realloc(bytes, capacity);
            if (more == NULL) {
                free(bytes);
                return sl_err_set(err, SL_E_NOMEM, "%s: %zu bytes", s->where, capacity);
            }
            bytes = more;
        }
        size_t got;
        enum sl_code rc = sl_stream_read(s, bytes + n, capacity - n, &got, err);
        if (rc != SL_OK) {
            free(bytes);
            return rc;
        }
        n += got;
        if (n < capacity)
            break;
    }
    *ret = bytes;
    *ret_n = n;
    return SL_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An update is not synced: after a power cut the file may hold anything, which the two digests
 * find out, and then the update is trained again. A kill between any two calls leaves
 * either the old content or the new. */
#include "client/client_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crash_point.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/mem.h"

#define MAGIC "SLUPDAT2"
#define HEADER 216
#define HEADER_HASHED 200
#define STATE_MAGIC "SLSTATE1"
#define STATE_HEADER 88
#define STATE_HASHED 72

struct files {
    struct sl_client_store base;
    struct sl_log *log;
    char *dir; /* for messages */
    int dir_fd;
    int lock_fd;
    int fd;        /* of `update`, -1 when it is not open */
    uint64_t size; /* of the update in it */
};

/* --- header
 * --------------------------------------------------------------------------------------
 */

static void put(uint8_t *at, const void *value, size_t n)
{
    memcpy(at, value, n); /* little-endian hosts only, as for all tensors */
}

static void header_write(const struct sl_kept_update *u, uint8_t h[HEADER])
{
    uint64_t bytes = HEADER;
    uint32_t has_eval = u->meta.has_eval;
    struct sl_blob_id sum;
    put(h, MAGIC, 8);
    put(h + 8, &bytes, 8);
    put(h + 16, &u->run_id, 8);
    put(h + 24, &u->round, 4);
    put(h + 28, &u->meta.encoding, 4);
    put(h + 32, u->plan.bytes, 16);
    put(h + 48, u->model.bytes, 16);
    put(h + 64, u->blob.id.bytes, 16);
    put(h + 80, &u->blob.size, 8);
    put(h + 88, &u->meta.weight, 8);
    put(h + 96, &u->meta.samples, 8);
    put(h + 104, &u->meta.steps, 4);
    put(h + 108, &has_eval, 4);
    put(h + 112, &u->meta.loss_sum, 8);
    put(h + 120, &u->meta.first_loss, 8);
    put(h + 128, &u->meta.eval.samples, 8);
    put(h + 136, &u->meta.eval.correct, 8);
    put(h + 144, &u->meta.eval.loss_sum, 8);
    put(h + 152, &u->meta.cost.macs, 8);
    put(h + 160, &u->meta.cost.work, 8);
    put(h + 168, &u->meta.cost.cycles, 8);
    put(h + 176, &u->meta.cost.conversions, 8);
    put(h + 184, &u->meta.cost.bits, 8);
    put(h + 192, &u->meta.cost.energy, 8);
    sl_xxh3_128(h, HEADER_HASHED, &sum);
    put(h + HEADER_HASHED, sum.bytes, 16);
}

/* NULL, or what is wrong with it. */
static const char *header_read(const uint8_t h[HEADER], struct sl_kept_update *ret)
{
    struct sl_blob_id sum;
    uint64_t bytes;
    uint32_t has_eval;
    struct sl_kept_update u = {0};
    if (memcmp(h, MAGIC, 8) != 0)
        return "not an update file";
    sl_xxh3_128(h, HEADER_HASHED, &sum);
    if (memcmp(h + HEADER_HASHED, sum.bytes, 16) != 0)
        return "header is damaged";
    memcpy(&bytes, h + 8, 8);
    memcpy(&u.run_id, h + 16, 8);
    memcpy(&u.round, h + 24, 4);
    memcpy(&u.meta.encoding, h + 28, 4);
    memcpy(u.plan.bytes, h + 32, 16);
    memcpy(u.model.bytes, h + 48, 16);
    memcpy(u.blob.id.bytes, h + 64, 16);
    memcpy(&u.blob.size, h + 80, 8);
    memcpy(&u.meta.weight, h + 88, 8);
    memcpy(&u.meta.samples, h + 96, 8);
    memcpy(&u.meta.steps, h + 104, 4);
    memcpy(&has_eval, h + 108, 4);
    memcpy(&u.meta.loss_sum, h + 112, 8);
    memcpy(&u.meta.first_loss, h + 120, 8);
    memcpy(&u.meta.eval.samples, h + 128, 8);
    memcpy(&u.meta.eval.correct, h + 136, 8);
    memcpy(&u.meta.eval.loss_sum, h + 144, 8);
    memcpy(&u.meta.cost.macs, h + 152, 8);
    memcpy(&u.meta.cost.work, h + 160, 8);
    memcpy(&u.meta.cost.cycles, h + 168, 8);
    memcpy(&u.meta.cost.conversions, h + 176, 8);
    memcpy(&u.meta.cost.bits, h + 184, 8);
    memcpy(&u.meta.cost.energy, h + 192, 8);
    u.meta.has_eval = has_eval == 1;
    if (bytes != HEADER || has_eval > 1 || u.blob.size == 0 ||
        u.blob.size > SL_BLOB_BYTES_MAX || !isfinite(u.meta.loss_sum) ||
        !isfinite(u.meta.first_loss) || !isfinite(u.meta.eval.loss_sum) ||
        !isfinite(u.meta.cost.energy) ||
        u.meta.eval.correct > u.meta.eval.samples)
        return "header is of another version";
    *ret = u;
    return NULL;
}

/* --- files
 * ---------------------------------------------------------------------------------------
 */

static bool read_full(int fd, uint64_t offset, uint8_t *buf, size_t n)
{
    while (n > 0) {
        ssize_t k = pread(fd, buf, n, (off_t)offset);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            errno = k == 0 ? EIO : errno;
            return false;
        }
        buf += k;
        offset += (uint64_t)k;
        n -= (size_t)k;
    }
    return true;
}

static bool write_full(int fd, uint64_t offset, const uint8_t *buf, size_t n)
{
    while (n > 0) {
        ssize_t k = pwrite(fd, buf, n, (off_t)offset);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return false;
        buf += k;
        offset += (uint64_t)k;
        n -= (size_t)k;
    }
    return true;
}

/* NULL, or what is wrong with the bytes behind the header. */
static const char *check_data(int fd, const struct sl_kept_update *u)
{
    struct sl_xxh3 s;
    struct sl_blob_id sum;
    uint8_t buf[16 << 10];
    sl_xxh3_init(&s);
    for (uint64_t at = 0; at < u->blob.size;) {
        size_t n =
            u->blob.size - at < sizeof buf ? (size_t)(u->blob.size - at) : sizeof buf;
        if (!read_full(fd, HEADER + at, buf, n))
            return "can't be read";
        sl_xxh3_update(&s, buf, n);
        at += n;
    }
    sl_xxh3_final(&s, &sum);
    return sl_blob_id_equal(&sum, &u->blob.id) ? NULL : "its bytes fail their checksum";
}

static const char *check_file(int fd, struct sl_kept_update *ret)
{
    uint8_t h[HEADER];
    struct stat st;
    struct sl_kept_update u;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return "not a regular file";
    if (st.st_size < HEADER || !read_full(fd, 0, h, HEADER))
        return "shorter than its header";
    const char *wrong = header_read(h, &u);
    if (wrong != NULL)
        return wrong;
    if ((uint64_t)st.st_size != HEADER + u.blob.size)
        return "not as long as its header says";
    wrong = check_data(fd, &u);
    if (wrong == NULL)
        *ret = u;
    return wrong;
}

static void close_update(struct files *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    f->size = 0;
}

static enum sl_code update_load(struct sl_client_store *s, bool *ret_present,
                                struct sl_kept_update *ret, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    close_update(f);
    int fd = openat(f->dir_fd, "update", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT && errno != ELOOP)
        return sl_err_errno(err, errno, "%s/update", f->dir);
    struct sl_kept_update u;
    const char *wrong = fd < 0 ? "not there" : check_file(fd, &u);
    if (wrong != NULL) {
        if (fd >= 0) {
            sl_log_write(f->log, SL_LOG_WARN, "%s/update: %s; the update is made again", f->dir,
                   wrong);
            close(fd);
        }
        *ret_present = false;
        return SL_OK;
    }
    f->fd = fd;
    f->size = u.blob.size;
    *ret = u;
    *ret_present = true;
    return SL_OK;
}

static bool write_tmp(int fd, const struct sl_kept_update *u, const uint8_t *data,
                      size_t n)
{
    uint8_t h[HEADER];
    header_write(u, h);
    return write_full(fd, 0, h, HEADER) && write_full(fd, HEADER, data, n) &&
           ftruncate(fd, (off_t)(HEADER + n)) == 0;
}

static enum sl_code update_write(struct sl_client_store *s,
                                 const struct sl_kept_update *u, const uint8_t *data,
                                 size_t n, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    if (n == 0 || n > SL_BLOB_BYTES_MAX || u->blob.size != n)
        return sl_err_set(err, SL_E_LIMIT, "update: %zu bytes, allowed are 1 to %zu", n,
                          SL_BLOB_BYTES_MAX);
    int fd =
        openat(f->dir_fd, "update.tmp", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sl_err_errno(err, errno, "%s/update.tmp", f->dir);
    if (!write_tmp(fd, u, data, n) ||
        renameat(f->dir_fd, "update.tmp", f->dir_fd, "update") != 0) {
        int e = errno;
        close(fd);
        unlinkat(f->dir_fd, "update.tmp", 0);
        return sl_err_errno(err, e, "%s/update.tmp", f->dir);
    }
    close_update(f);
    f->fd = fd;
    f->size = n;
    SL_CRASH_POINT("client_after_store");
    return SL_OK;
}

static enum sl_code update_read(struct sl_client_store *s, uint64_t offset, uint8_t *ret,
                                size_t n, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    if (f->fd < 0)
        return sl_err_set(err, SL_E_NOTFOUND, "%s/update: nothing is kept", f->dir);
    if (offset > f->size || n > f->size - offset)
        return sl_err_set(err, SL_E_RANGE,
                          "%s/update: bytes %" PRIu64 "+%zu, it has %" PRIu64, f->dir,
                          offset, n, f->size);
    if (!read_full(f->fd, HEADER + offset, ret, n))
        return sl_err_errno(err, errno, "%s/update", f->dir);
    return SL_OK;
}

static enum sl_code update_drop(struct sl_client_store *s, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    close_update(f);
    if (renameat(f->dir_fd, "update", f->dir_fd, "update.tmp") != 0 && errno != ENOENT)
        return sl_err_errno(err, errno, "%s/update", f->dir);
    if (unlinkat(f->dir_fd, "state.next", 0) != 0 && errno != ENOENT)
        return sl_err_errno(err, errno, "%s/state.next", f->dir);
    return SL_OK;
}

/* --- state
 * ---------------------------------------------------------------------------------------
 */

static void state_header(const struct sl_kept_update *u, uint64_t n,
                         const struct sl_blob_id *sum, uint8_t h[STATE_HEADER])
{
    struct sl_blob_id own;
    memset(h, 0, STATE_HEADER);
    put(h, STATE_MAGIC, 8);
    put(h + 8, &u->run_id, 8);
    put(h + 16, &u->round, 4);
    put(h + 24, &n, 8);
    put(h + 32, sum->bytes, 16);
    put(h + 48, u->blob.id.bytes, 16);
    put(h + 64, &u->blob.size, 8);
    sl_xxh3_128(h, STATE_HASHED, &own);
    put(h + STATE_HASHED, own.bytes, 16);
}

struct state_file {
    struct sl_kept_update of; /* run, round and blob only */
    uint64_t n;
    struct sl_blob_id sum;
};

/* Opens a state file and reads its header; *ret_fd -1 when it is not there or damaged. */
static enum sl_code state_open(struct files *f, const char *name, int *ret_fd,
                               struct state_file *ret, struct sl_err *err)
{
    uint8_t h[STATE_HEADER];
    struct sl_blob_id own;
    *ret_fd = -1;
    int fd = openat(f->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? SL_OK : sl_err_errno(err, errno, "%s/%s", f->dir, name);
    bool good = read_full(fd, 0, h, STATE_HEADER) && memcmp(h, STATE_MAGIC, 8) == 0;
    if (good) {
        sl_xxh3_128(h, STATE_HASHED, &own);
        good = memcmp(h + STATE_HASHED, own.bytes, 16) == 0;
    }
    if (!good) {
        close(fd);
        sl_log_write(f->log, SL_LOG_WARN, "%s/%s: damaged; going on without it", f->dir, name);
        return SL_OK;
    }
    *ret = (struct state_file){0};
    memcpy(&ret->of.run_id, h + 8, 8);
    memcpy(&ret->of.round, h + 16, 4);
    memcpy(&ret->n, h + 24, 8);
    memcpy(ret->sum.bytes, h + 32, 16);
    memcpy(ret->of.blob.id.bytes, h + 48, 16);
    memcpy(&ret->of.blob.size, h + 64, 8);
    *ret_fd = fd;
    return SL_OK;
}

static enum sl_code state_read(struct sl_client_store *s, uint64_t run_id, uint8_t *ret,
                               size_t n, bool *ret_present, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    struct state_file file;
    struct sl_blob_id sum;
    int fd;
    *ret_present = false;
    enum sl_code rc = state_open(f, "state", &fd, &file, err);
    if (rc != SL_OK || fd < 0)
        return rc;
    if (file.of.run_id == run_id && file.n == n) {
        bool good = read_full(fd, STATE_HEADER, ret, n);
        sl_xxh3_128(ret, n, &sum);
        *ret_present = good && sl_blob_id_equal(&sum, &file.sum);
        if (!*ret_present)
            sl_log_write(f->log, SL_LOG_WARN, "%s/state: damaged; going on without it",
                         f->dir);
    }
    close(fd);
    return SL_OK;
}

static enum sl_code state_stage(struct sl_client_store *s, const struct sl_kept_update *u,
                                const uint8_t *data, size_t n, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    uint8_t h[STATE_HEADER];
    struct sl_blob_id sum;
    sl_xxh3_128(data, n, &sum);
    state_header(u, n, &sum, h);
    int fd = openat(f->dir_fd, "state.tmp",
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sl_err_errno(err, errno, "%s/state.tmp", f->dir);
    bool good = write_full(fd, 0, h, STATE_HEADER) &&
                write_full(fd, STATE_HEADER, data, n) && fdatasync(fd) == 0;
    int e = errno;
    close(fd);
    if (good && renameat(f->dir_fd, "state.tmp", f->dir_fd, "state.next") == 0 &&
        fsync(f->dir_fd) == 0)
        return SL_OK;
    e = good ? errno : e;
    unlinkat(f->dir_fd, "state.tmp", 0);
    return sl_err_errno(err, e, "%s/state.tmp", f->dir);
}

static enum sl_code state_staged(struct sl_client_store *s, bool *ret_present,
                                 struct sl_kept_update *ret, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    struct state_file file;
    int fd;
    enum sl_code rc = state_open(f, "state.next", &fd, &file, err);
    *ret_present = rc == SL_OK && fd >= 0;
    if (!*ret_present)
        return rc;
    close(fd);
    *ret = file.of;
    return SL_OK;
}

static enum sl_code state_commit(struct sl_client_store *s, uint64_t run_id,
                                 uint32_t round, struct sl_err *err)
{
    struct files *f = (struct files *)s;
    bool present;
    struct sl_kept_update of = {0};
    enum sl_code rc = state_staged(s, &present, &of, err);
    if (rc != SL_OK || !present || of.run_id != run_id || of.round != round)
        return rc;
    if (renameat(f->dir_fd, "state.next", f->dir_fd, "state") != 0 ||
        fsync(f->dir_fd) != 0)
        return sl_err_errno(err, errno, "%s/state", f->dir);
    return SL_OK;
}

static void store_close(struct sl_client_store *s)
{
    struct files *f = (struct files *)s;
    if (f == NULL)
        return;
    close_update(f);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    if (f->dir_fd >= 0)
        close(f->dir_fd);
    free(f->dir);
    free(f);
}

static const struct sl_client_store_ops ops = {
    .update_write = update_write,
    .update_load = update_load,
    .update_read = update_read,
    .update_drop = update_drop,
    .state_read = state_read,
    .state_stage = state_stage,
    .state_staged = state_staged,
    .state_commit = state_commit,
    .close = store_close,
};

static enum sl_code open_dir(struct files *f, struct sl_err *err)
{
    if (mkdir(f->dir, 0700) != 0 && errno != EEXIST)
        return sl_err_set(err, SL_E_STATE, "state directory %s: %s", f->dir,
                          strerror(errno));
    f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir_fd < 0)
        return sl_err_set(err, SL_E_STATE, "state directory %s: %s", f->dir,
                          strerror(errno));
    f->lock_fd =
        openat(f->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->lock_fd < 0)
        return sl_err_set(err, SL_E_STATE, "state directory %s: lock: %s", f->dir,
                          strerror(errno));
    if (flock(f->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return sl_err_set(err, SL_E_STATE, "state directory %s: %s", f->dir,
                          errno == EWOULDBLOCK ? "in use by another client"
                                               : strerror(errno));
    return SL_OK;
}

enum sl_code sl_client_store_files_open(const char *state_dir, struct sl_log *log,
                                        struct sl_client_store **ret, struct sl_err *err)
{
    struct files *f = sl_calloc(1, sizeof *f);
    if (f == NULL)
        return sl_err_set(err, SL_E_NOMEM, "client store: no memory");
    *f = (struct files){
        .base.ops = &ops, .log = log, .dir_fd = -1, .lock_fd = -1, .fd = -1};
    f->dir = strdup(state_dir);
    enum sl_code rc = f->dir == NULL
                          ? sl_err_set(err, SL_E_NOMEM, "client store: no memory")
                          : open_dir(f, err);
    if (rc != SL_OK) {
        store_close(&f->base);
        return rc;
    }
    *ret = &f->base;
    return SL_OK;
}

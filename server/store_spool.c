/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store_spool.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "common/mem.h"

enum sl_code sl_spool_resize(struct sl_spool *s, uint32_t n_slots, uint64_t slot_bytes,
                             struct sl_err *err)
{
    size_t bytes;
    if (!sl_size_mul(n_slots, slot_bytes, &bytes) || bytes > INT64_MAX)
        return sl_err_set(err, SL_E_LIMIT,
                          "spool of %" PRIu32 " slots of %" PRIu64 " bytes", n_slots,
                          slot_bytes);
    if (ftruncate(s->fd, (off_t)bytes) != 0)
        return sl_err_errno(err, errno, "spool: resize to %zu bytes", bytes);
    s->n_slots = n_slots;
    s->slot_bytes = slot_bytes;
    return SL_OK;
}

static enum sl_code place(const struct sl_spool *s, uint32_t slot, uint64_t offset,
                          size_t n, off_t *ret_at, struct sl_err *err)
{
    if (s->fd < 0 || slot >= s->n_slots || offset > s->slot_bytes ||
        n > s->slot_bytes - offset)
        return sl_err_set(err, SL_E_RANGE,
                          "spool: %zu bytes at %" PRIu64 " of slot %" PRIu32 " (%" PRIu32
                          " slots of %" PRIu64 " bytes)",
                          n, offset, slot, s->n_slots, s->slot_bytes);
    *ret_at = (off_t)(slot * s->slot_bytes + offset);
    return SL_OK;
}

enum sl_code sl_spool_write(const struct sl_spool *s, uint32_t slot, uint64_t offset,
                            const uint8_t *data, size_t n, struct sl_err *err)
{
    off_t at;
    enum sl_code rc = place(s, slot, offset, n, &at, err);
    while (rc == SL_OK && n > 0) {
        ssize_t w = pwrite(s->fd, data, n, at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return sl_err_errno(err, errno, "spool: write");
        data += w;
        at += w;
        n -= (size_t)w;
    }
    return rc;
}

enum sl_code sl_spool_read(const struct sl_spool *s, uint32_t slot, uint64_t offset,
                           uint8_t *ret, size_t n, struct sl_err *err)
{
    off_t at;
    enum sl_code rc = place(s, slot, offset, n, &at, err);
    while (rc == SL_OK && n > 0) {
        ssize_t r = pread(s->fd, ret, n, at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return sl_err_errno(err, errno, "spool: read");
        if (r == 0)
            return sl_err_set(err, SL_E_STATE, "spool: file is shorter than its slots");
        ret += r;
        at += r;
        n -= (size_t)r;
    }
    return rc;
}

void sl_spool_close(struct sl_spool *s)
{
    if (s->fd >= 0)
        close(s->fd);
    *s = (struct sl_spool){.fd = -1};
}

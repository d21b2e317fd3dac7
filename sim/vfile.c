/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/vfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/mem.h"

#define REGIONS_AT_ONCE 16

static int open_unlinked(void)
{
    const char *dir = getenv("TMPDIR");
    if (dir == NULL || dir[0] == '\0')
        dir = "/var/tmp";
    return open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
}

enum sl_code sl_vfile_init(struct sl_vfile *f, uint64_t region_bytes, struct sl_err *err)
{
    *f = (struct sl_vfile){.file = {.fd = open_unlinked(), .slot_bytes = region_bytes}};
    if (f->file.fd < 0)
        return sl_err_errno(err, errno, "temporary file for kept updates");
    return SL_OK;
}

void sl_vfile_deinit(struct sl_vfile *f)
{
    if (f == NULL)
        return;
    sl_spool_close(&f->file);
    free(f->free_regions);
    *f = (struct sl_vfile){.file.fd = -1};
}

static enum sl_code grow(struct sl_vfile *f, struct sl_err *err)
{
    size_t cap = (size_t)f->file.n_slots + REGIONS_AT_ONCE;
    uint32_t *more = realloc(f->free_regions, cap * sizeof(*more));
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "regions for kept updates");
    f->free_regions = more;
    f->cap = cap;
    uint32_t first = f->file.n_slots;
    enum sl_code rc = sl_spool_resize(&f->file, (uint32_t)cap, f->file.slot_bytes, err);
    for (uint32_t r = (uint32_t)cap; rc == SL_OK && r > first; r--)
        f->free_regions[f->n_free++] = r - 1;
    return rc;
}

enum sl_code sl_vfile_take(struct sl_vfile *f, uint32_t *ret_region, struct sl_err *err)
{
    enum sl_code rc = f->n_free == 0 ? grow(f, err) : SL_OK;
    if (rc == SL_OK)
        *ret_region = f->free_regions[--f->n_free];
    return rc;
}

void sl_vfile_give(struct sl_vfile *f, uint32_t region)
{
    if (region != SL_VFILE_NONE)
        f->free_regions[f->n_free++] = region;
}

enum sl_code sl_vfile_write(const struct sl_vfile *f, uint32_t region,
                            const uint8_t *data, size_t n, struct sl_err *err)
{
    return sl_spool_write(&f->file, region, 0, data, n, err);
}

enum sl_code sl_vfile_read(const struct sl_vfile *f, uint32_t region, uint8_t *ret,
                           size_t n, struct sl_err *err)
{
    return sl_spool_read(&f->file, region, 0, ret, n, err);
}

size_t sl_vfile_used(const struct sl_vfile *f)
{
    return f->file.n_slots - f->n_free;
}

/* --- a client's store
 * --------------------------------------------------------------------------- */

static struct sl_vstore *self(struct sl_client_store *s)
{
    return (struct sl_vstore *)s;
}

enum sl_code sl_vstore_install(struct sl_vstore *s, const struct sl_kept_update *u,
                               uint32_t region, struct sl_err *err)
{
    if (s->kept == NULL)
        s->kept = malloc(sizeof(*s->kept));
    if (s->kept == NULL) {
        sl_vfile_give(s->file, region);
        return sl_err_set(err, SL_E_NOMEM, "kept update");
    }
    *s->kept = *u;
    sl_vfile_give(s->file, s->region);
    s->region = region;
    return SL_OK;
}

void sl_vstore_clear(struct sl_vstore *s)
{
    if (s->kept == NULL)
        return;
    free(s->kept);
    s->kept = NULL;
    sl_vfile_give(s->file, s->region);
    s->region = SL_VFILE_NONE;
}

static void forget(struct sl_vstore *s, struct sl_vstate *state)
{
    if (state->region != SL_VFILE_NONE)
        sl_vfile_give(s->states, state->region);
    state->region = SL_VFILE_NONE;
}

void sl_vstore_stage(struct sl_vstore *s, const struct sl_vstate *state)
{
    forget(s, &s->staged);
    s->staged = *state;
}

void sl_vstore_deinit(struct sl_vstore *s)
{
    sl_vstore_clear(s);
    forget(s, &s->state);
    forget(s, &s->staged);
}

static enum sl_code update_write(struct sl_client_store *base,
                                 const struct sl_kept_update *u, const uint8_t *data,
                                 size_t n, struct sl_err *err)
{
    struct sl_vstore *s = self(base);
    uint32_t region;
    enum sl_code rc = sl_vfile_take(s->file, &region, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_vfile_write(s->file, region, data, n, err);
    if (rc != SL_OK) {
        sl_vfile_give(s->file, region);
        return rc;
    }
    return sl_vstore_install(s, u, region, err);
}

static enum sl_code update_load(struct sl_client_store *base, bool *ret_present,
                                struct sl_kept_update *ret, struct sl_err *err)
{
    const struct sl_vstore *s = self(base);
    *ret_present = s->kept != NULL;
    if (s->kept != NULL)
        *ret = *s->kept;
    return SL_OK;
}

static enum sl_code update_read(struct sl_client_store *base, uint64_t offset,
                                uint8_t *ret, size_t n, struct sl_err *err)
{
    const struct sl_vstore *s = self(base);
    if (s->kept == NULL || offset > s->kept->blob.size || n > s->kept->blob.size - offset)
        return sl_err_set(err, SL_E_RANGE, "kept update: %zu bytes beyond its end", n);
    return sl_spool_read(&s->file->file, s->region, offset, ret, n, err);
}

static enum sl_code update_drop(struct sl_client_store *base, struct sl_err *err)
{
    struct sl_vstore *s = self(base);
    sl_vstore_clear(s);
    forget(s, &s->staged);
    return SL_OK;
}

static enum sl_code state_read(struct sl_client_store *base, uint64_t run_id, uint8_t *ret,
                               size_t n, bool *ret_present, struct sl_err *err)
{
    const struct sl_vstore *s = self(base);
    *ret_present = s->state.region != SL_VFILE_NONE && s->state.run_id == run_id;
    return *ret_present ? sl_vfile_read(s->states, s->state.region, ret, n, err) : SL_OK;
}

static enum sl_code state_stage(struct sl_client_store *base,
                                const struct sl_kept_update *u, const uint8_t *data,
                                size_t n, struct sl_err *err)
{
    struct sl_vstore *s = self(base);
    struct sl_vstate state = {.run_id = u->run_id, .round = u->round, .blob = u->blob};
    enum sl_code rc = s->states == NULL ? sl_err_set(err, SL_E_BUG, "no file of states")
                                        : sl_vfile_take(s->states, &state.region, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_vfile_write(s->states, state.region, data, n, err);
    if (rc == SL_OK)
        sl_vstore_stage(s, &state);
    else
        sl_vfile_give(s->states, state.region);
    return rc;
}

static enum sl_code state_staged(struct sl_client_store *base, bool *ret_present,
                                 struct sl_kept_update *ret, struct sl_err *err)
{
    const struct sl_vstore *s = self(base);
    (void)err;
    *ret_present = s->staged.region != SL_VFILE_NONE;
    if (*ret_present)
        *ret = (struct sl_kept_update){.run_id = s->staged.run_id,
                                       .round = s->staged.round,
                                       .blob = s->staged.blob};
    return SL_OK;
}

static enum sl_code state_commit(struct sl_client_store *base, uint64_t run_id,
                                 uint32_t round, struct sl_err *err)
{
    struct sl_vstore *s = self(base);
    (void)err;
    if (s->staged.region == SL_VFILE_NONE || s->staged.run_id != run_id ||
        s->staged.round != round)
        return SL_OK;
    forget(s, &s->state);
    s->state = s->staged;
    s->staged.region = SL_VFILE_NONE;
    return SL_OK;
}

static void close_store(struct sl_client_store *base)
{
    (void)base; /* the content outlives the client that used it */
}

void sl_vstore_init(struct sl_vstore *s, struct sl_vfile *f, struct sl_vfile *states)
{
    static const struct sl_client_store_ops ops = {
        .update_write = update_write,
        .update_load = update_load,
        .update_read = update_read,
        .update_drop = update_drop,
        .state_read = state_read,
        .state_stage = state_stage,
        .state_staged = state_staged,
        .state_commit = state_commit,
        .close = close_store,
    };
    *s = (struct sl_vstore){.base.ops = &ops,
                            .file = f,
                            .region = SL_VFILE_NONE,
                            .states = states,
                            .state.region = SL_VFILE_NONE,
                            .staged.region = SL_VFILE_NONE};
}

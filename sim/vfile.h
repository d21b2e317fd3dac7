/* SPDX-License-Identifier: Apache-2.0 */
/* vfile.h - what virtual clients keep: regions of equal size in an unlinked temporary
 * file, one for updates and one for what clients carry from round to round, and the client store (client/client_store.h) on top of it. Memory stays the same
 * however many clients keep an update. Thread: loop thread, except sl_vfile_write, which
 * a worker may call for the region it was handed. */
#ifndef SL_SIM_VFILE_H
#define SL_SIM_VFILE_H

#include <stddef.h>
#include <stdint.h>

#include "client/client_store.h"
#include "common/error.h"
#include "server/store_spool.h"

#define SL_VFILE_NONE UINT32_MAX

struct sl_vfile {
    struct sl_spool file;
    uint32_t *free_regions; /* owned; a stack */
    size_t n_free, cap;
};

/* region_bytes: the largest update of any run. */
enum sl_code sl_vfile_init(struct sl_vfile *f, uint64_t region_bytes, struct sl_err *err);
void sl_vfile_deinit(struct sl_vfile *f);

enum sl_code sl_vfile_take(struct sl_vfile *f, uint32_t *ret_region, struct sl_err *err);
void sl_vfile_give(struct sl_vfile *f, uint32_t region); /* SL_VFILE_NONE allowed */
enum sl_code sl_vfile_write(const struct sl_vfile *f, uint32_t region,
                            const uint8_t *data, size_t n, struct sl_err *err);
/* Regions taken and not given back. */
size_t sl_vfile_used(const struct sl_vfile *f);

enum sl_code sl_vfile_read(const struct sl_vfile *f, uint32_t region, uint8_t *ret,
                           size_t n, struct sl_err *err);

/* A region of states and whose it is. */
struct sl_vstate {
    uint64_t run_id;
    uint32_t round;
    uint32_t region;         /* SL_VFILE_NONE = nothing */
    struct sl_blob_ref blob; /* of the update it goes with */
};

/* One virtual client's store. Begins with its ops; lives in the world's table of clients.
 */
struct sl_vstore {
    struct sl_client_store base;
    struct sl_vfile *file;       /* borrowed */
    struct sl_kept_update *kept; /* owned; NULL = nothing */
    uint32_t region;
    struct sl_vfile *states; /* borrowed; NULL = none of the plans needs them */
    struct sl_vstate state, staged;
};

void sl_vstore_init(struct sl_vstore *s, struct sl_vfile *f, struct sl_vfile *states);
/* Stages the state that was written to its region before. Takes the region over. */
void sl_vstore_stage(struct sl_vstore *s, const struct sl_vstate *state);
/* Keeps the update that was written to `region` before, in place of what was kept. Takes
 * the region over, also on failure. */
enum sl_code sl_vstore_install(struct sl_vstore *s, const struct sl_kept_update *u,
                               uint32_t region, struct sl_err *err);
/* Forgets the update (a power cut: states are synced). */
void sl_vstore_clear(struct sl_vstore *s);
/* Forgets everything. */
void sl_vstore_deinit(struct sl_vstore *s);

#endif

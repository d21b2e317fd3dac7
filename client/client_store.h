/* SPDX-License-Identifier: Apache-2.0 */
/* client_store.h - what a client remembers across a kill, as an ops table: the update it
 * has made and whose round is not settled yet, and the state of its local algorithm.
 * One update at a time. store_files.c keeps it in the state directory (written, not
 * synced: a lost update is trained again to the same bytes); the simulator has its own.
 * Thread: update_write, state_read and state_stage run on the worker that trains; the
 * rest on the loop thread. */
#ifndef SL_CLIENT_STORE_H
#define SL_CLIENT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/wire.h"

struct sl_kept_update {
    uint64_t run_id;
    uint32_t round;
    struct sl_blob_id plan, model; /* of the task it answers: equal round, equal inputs */
    struct sl_blob_ref blob;
    struct sl_update_meta meta;
};

struct sl_client_store;
struct sl_log;

struct sl_client_store_ops {
    /* Replaces the kept update, all or nothing. */
    enum sl_code (*update_write)(struct sl_client_store *s,
                                 const struct sl_kept_update *u, const uint8_t *data,
                                 size_t n, struct sl_err *err);
    /* What is kept; *ret_present false when nothing is, or what is there fails its
     * checksum. */
    enum sl_code (*update_load)(struct sl_client_store *s, bool *ret_present,
                                struct sl_kept_update *ret, struct sl_err *err);
    enum sl_code (*update_read)(struct sl_client_store *s, uint64_t offset, uint8_t *ret,
                                size_t n, struct sl_err *err);
    /* The staged state too. */
    enum sl_code (*update_drop)(struct sl_client_store *s, struct sl_err *err);

    /* What a client carries from one committed round of a run to its next (residuals of
     * the encoding, control variates). A state is staged beside the update it was made
     * with, and takes the place of the old one when the round is committed with that. */
    /* The current state of the run, n bytes; *ret_present false when there is none of this
     * run and size. */
    enum sl_code (*state_read)(struct sl_client_store *s, uint64_t run_id, uint8_t *ret,
                               size_t n, bool *ret_present, struct sl_err *err);
    /* The state that goes with u, on disk when it returns. Before update_write. */
    enum sl_code (*state_stage)(struct sl_client_store *s, const struct sl_kept_update *u,
                                const uint8_t *data, size_t n, struct sl_err *err);
    /* Run, round and blob of the update that a staged state goes with, if there is one: it
     * survives the loss of the update. */
    enum sl_code (*state_staged)(struct sl_client_store *s, bool *ret_present,
                                 struct sl_kept_update *ret, struct sl_err *err);
    /* Makes what is staged for that round current; nothing when there is none. */
    enum sl_code (*state_commit)(struct sl_client_store *s, uint64_t run_id,
                                 uint32_t round, struct sl_err *err);
    void (*close)(struct sl_client_store *s);
};

struct sl_client_store {
    const struct sl_client_store_ops *ops;
};

/* The store in a state directory (made with mode 0700 when it is not there), which is
 * locked against a second client. log: where damaged content is reported; borrowed, NULL
 * allowed. SL_E_STATE when the directory can't be used. close() frees it.
 *
 * File `update`, little-endian; `update.tmp` is the same while it is written, or an old
 * one whose pages the next is written to:
 *
 *     0   "SLUPDAT2"             64  blob id 16         112 loss_sum f64
 *     8   header bytes u64       80  blob size u64      120 first_loss f64
 *     16  run u64                88  weight u64         128 eval samples u64
 *     24  round u32              96  samples u64        136 eval correct u64
 *     28  encoding u32           104 steps u32          144 eval loss_sum f64
 *     32  plan id 16             108 has_eval u32       152 cost: five u64 and a f64
 *     48  model id 16                                   200 XXH3-128 of bytes 0..199
 *                                                       216 the update's bytes
 *
 * Files `state` (current) and `state.next` (staged), synced:
 *
 *     0   "SLSTATE1"   20  0 u32                 48  blob id 16, of the update
 *     8   run u64      24  bytes u64             64  blob size u64
 *     16  round u32    32  XXH3-128 of them      72  XXH3-128 of bytes 0..71
 *                                                88  the state's bytes */
enum sl_code sl_client_store_files_open(const char *state_dir, struct sl_log *log,
                                        struct sl_client_store **ret, struct sl_err *err);

#endif

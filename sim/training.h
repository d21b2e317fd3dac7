/* SPDX-License-Identifier: Apache-2.0 */
/* training.h - what all virtual clients of a plan share: plan, model, training set,
 * partition; and one bench a worker thread, so that memory is O(workers x model). What a
 * client does with a task is client/local's code. Owns: all of it. Thread: made and freed
 * on the loop thread; sl_training_do runs on worker `w`, and touches that worker's bench
 * only. */
#ifndef SL_SIM_TRAINING_H
#define SL_SIM_TRAINING_H

#include <stdbool.h>
#include <stdint.h>

#include "accel/codec/codec.h"
#include "accel/nn/model.h"
#include "client/local/local.h"
#include "common/dataset.h"
#include "common/error.h"
#include "common/partition.h"
#include "common/plan.h"
#include "common/wire.h"
#include "sim/attack/attack.h"
#include "sim/vfile.h"

struct sl_training;

/* *plan is borrowed and must outlive the result. n_workers: as many benches at most. */
enum sl_code sl_training_new(const struct sl_plan *plan, unsigned n_workers,
                             struct sl_training **ret, struct sl_err *err);
/* From now on the plan's first clients attack (attack/attack.h); before the first task.
 * *attack is borrowed. SL_E_INPUT: more attackers than clients; a plan whose clients carry
 * something over, which an attacker's update would not go with. */
enum sl_code sl_training_attack(struct sl_training *t, const struct sl_attack *attack,
                                struct sl_err *err);
void sl_training_free(struct sl_training *t); /* NULL allowed; no job may be under way */

const struct sl_plan *sl_training_plan(const struct sl_training *t);
const struct sl_model *sl_training_model(const struct sl_training *t);
const struct sl_partition *sl_training_partition(const struct sl_training *t);
const struct sl_dataset *sl_training_set(const struct sl_training *t);

/* How updates are encoded, and bytes that a client carries from round to round. */
const struct sl_codec *sl_training_codec(const struct sl_training *t);
size_t sl_training_state_bytes(const struct sl_training *t);

/* Largest thing that a client of the plan pushes. */
uint64_t sl_training_update_bytes(const struct sl_training *t);

/* Samples that a task of this client goes through, counted once per use: what its device
 * needs time for. With probes: those of the probe epochs, or of the rest. */
uint64_t sl_training_samples(const struct sl_training *t, uint32_t client, bool train,
                             bool evaluate);
uint64_t sl_training_part(const struct sl_training *t, uint32_t client, bool probe, bool evaluate);

struct sl_training_task {
    uint32_t client, round;
    bool train;     /* else: */
    bool probe;     /* train: only the probe epochs, whose loss is the result; a worker's bench serves
                       many clients, so the whole training begins anew, to the same bits */
    bool calibrate; /* statistics; else evaluate only */
    bool evaluate; /* the received model on the held-out share */
    const float *model, *head; /* as received; head NULL = none */
    const struct sl_vfile *file; /* where the update goes */
    uint32_t region;
    /* What the client carries over: read from `state` (SL_VFILE_NONE = nothing yet),
     * written to `staged`. NULL: nothing is carried. */
    const struct sl_vfile *states;
    uint32_t state, staged;
};

struct sl_training_result {
    enum sl_code rc;
    struct sl_err err;
    struct sl_update_meta meta;
    struct sl_blob_ref blob;
    struct sl_eval_counts eval;
    float loss;       /* of a probe */
    uint32_t samples; /* of the client */
};

void sl_training_do(struct sl_training *t, unsigned worker,
                    const struct sl_training_task *task, struct sl_training_result *ret);

#endif

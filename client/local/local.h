/* SPDX-License-Identifier: Apache-2.0 */
/* local.h - what a client does with a task, apart from talking: train from the received model on its
 * own samples, encode the update; or evaluate on its held-out share. The client half of a
 * strategy is a const ops table (sgd.c serves those that train plainly). The daemon and the simulator's workers call
 * this very code. Thread: a worker; one sl_local_bench a thread. */
#ifndef SL_CLIENT_LOCAL_H
#define SL_CLIENT_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/nn/model.h"
#include "accel/nn/train.h"
#include "common/dataset.h"
#include "common/error.h"
#include "common/plan.h"
#include "common/wire.h"

/* A client's samples: indices into `set`. */
struct sl_local_data {
    const struct sl_dataset *set;
    const uint32_t *train;
    size_t n_train;
    const uint32_t *holdout;
    size_t n_holdout;
};

/* What a worker trains with: model, trainer and the vectors, made once for a plan and used for any
 * client of it. */
struct sl_local_bench;
enum sl_code sl_local_bench_new(const struct sl_plan *plan, const struct sl_model *model,
                                struct sl_local_bench **ret, struct sl_err *err);
void sl_local_bench_free(struct sl_local_bench *b);

struct sl_local_order {
    const struct sl_plan *plan;
    uint32_t client, round;
    int64_t local_steps; /* this client's, from train.local_steps; -1 = epochs decide */
    bool evaluate;
    uint64_t noise; /* where the noise registers stand; the bench's to set */
    /* What this client carries over from its last committed round of the run:
     * sl_local_state_bytes() bytes, borrowed; NULL = this is its first. */
    const uint8_t *state;
    const float *variates; /* the coordinator's, as received; NULL = the strategy has none */
};

/* Vectors of an update (sl_codec_init) and of a model as received: 2 when the strategy has control
 * variates, which go behind the values that travel. */
unsigned sl_local_vectors(const struct sl_plan *plan);
/* Bytes of a model as received, and where in it the variates are; NULL = it has none. */
size_t sl_local_model_bytes(const struct sl_plan *plan, const struct sl_layout *layout);
const float *sl_local_variates(const struct sl_plan *plan, const struct sl_layout *layout,
                               const float *received);

/* Bytes that a client carries from round to round under the plan; 0 = none. */
size_t sl_local_state_bytes(const struct sl_plan *plan, const struct sl_layout *layout);
/* The same after sl_local_train: holds once the round is committed with the update, else
 * the old one stays. Valid until the bench's next use. */
const uint8_t *sl_local_state(const struct sl_local_bench *b);

/* Trains and encodes. *ret_update points into the bench (ret_n bytes), valid until its next use.
 * start: the received model, n_values floats. meta is complete on success. */
enum sl_code sl_local_train(struct sl_local_bench *b, const struct sl_local_order *order,
                            const struct sl_local_data *data, const float *start,
                            struct sl_update_meta *ret_meta, const uint8_t **ret_update,
                            size_t *ret_n, struct sl_err *err);

/* The same in two parts: the plan's probe epochs, whose mean loss is *ret_loss, then the rest, which ends
 * with the same bits. What order and data point to, and start, stay borrowed till then; the bench may
 * be used otherwise instead, which gives the training up. */
enum sl_code sl_local_probe(struct sl_local_bench *b, const struct sl_local_order *order,
                            const struct sl_local_data *data, const float *start,
                            float *ret_loss, struct sl_err *err);
enum sl_code sl_local_go_on(struct sl_local_bench *b, struct sl_update_meta *ret_meta,
                            const uint8_t **ret_update, size_t *ret_n, struct sl_err *err);

/* Statistics for a calibration of the model in `values` (accel/nn/calibrate.h) over the training samples:
 * *ret_bytes, ret_n of them, point into the bench, valid until its next use. */
enum sl_code sl_local_calibrate(struct sl_local_bench *b, const struct sl_plan *plan,
                                const struct sl_local_data *data, const float *values,
                                struct sl_update_meta *ret_meta, const uint8_t **ret_bytes,
                                size_t *ret_n, struct sl_err *err);

enum sl_code sl_local_evaluate(struct sl_local_bench *b, const struct sl_local_data *data,
                               const float *values, struct sl_eval_counts *ret,
                               struct sl_err *err);

#endif

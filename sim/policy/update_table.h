/* SPDX-License-Identifier: Apache-2.0 */
/* update_table.h - what clients of some federations would send, trained once, for the training of
 * policies only (never for results). A federation is a partition of one kind, a run of FedAvg over
 * it that gives a model for each bucket of accuracy, and every client's real local training from
 * each of these models: probe loss, and update. Between the models a client's answer to another
 * start is taken as linear: its local model moves by `keep` times what the start moved, where keep
 * is measured: clients train from a start that a random cohort displaced, and the shift of their
 * models is projected on the displacement.
 * The partitions are of the kinds of partitions.h in turn.
 * Owns: all of it. Thread: made on the caller's thread with workers; constant from then on. */
#ifndef SL_SIM_UPDATE_TABLE_H
#define SL_SIM_UPDATE_TABLE_H

#include <stdint.h>

#include "accel/nn/model.h"
#include "common/dataset.h"
#include "common/error.h"
#include "sim/policy/policy_plan.h"
#include "sim/workers.h"

struct sl_federation {
    uint32_t number; /* kind = number % SL_POLICY_PARTITIONS */
    uint32_t clients, buckets; /* buckets: at most the plan's */
    uint32_t *samples;  /* [clients] */
    double *accuracy;   /* [buckets], rising: of the bucket's model on the held-out samples */
    float *model;       /* [buckets, n_params] */
    float *keep;        /* [buckets], within [0, 1] */
    float *probe_loss;  /* [buckets, clients] */
    float *update;      /* [buckets, clients, n_params] */
};

struct sl_update_table {
    struct sl_dataset set; /* pooled; data.samples of the clients, then data.holdout */
    struct sl_model *model;
    size_t n_params;
    uint32_t n_federations;
    struct sl_federation *federations; /* those of the pool first, then the held-out ones */
};

/* Called on the caller's thread after each federation. */
typedef void (*sl_update_table_progress)(void *ctx, uint32_t done, uint32_t of);

/* SL_E_RANGE when the data set is too small; errors of loading and of training. */
enum sl_code sl_update_table_new(const struct sl_policy_plan *plan, struct sl_workers *workers,
                                 sl_update_table_progress progress, void *ctx,
                                 struct sl_update_table **ret, struct sl_err *err);
void sl_update_table_free(struct sl_update_table *t); /* NULL allowed */

/* The bucket whose model's accuracy is nearest, the lower one of two. */
uint32_t sl_federation_bucket(const struct sl_federation *f, double accuracy);

#endif

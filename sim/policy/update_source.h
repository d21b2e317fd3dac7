/* SPDX-License-Identifier: Apache-2.0 */
/* update_source.h - where the updates of a simulated federation come from: a table (cached_updates),
 * for the training of policies, or real local training (real_updates), for what is reported.
 * Calls of a round, in this order: probe, reach (any number of times), keep. Owns: its models.
 * Thread: one at a time a source. */
#ifndef SL_SIM_UPDATE_SOURCE_H
#define SL_SIM_UPDATE_SOURCE_H

#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "server/selection/facts.h"
#include "sim/policy/partitions.h"
#include "sim/policy/policy_plan.h"
#include "sim/policy/update_table.h"

struct sl_update_source;

struct sl_update_source_ops {
    /* A run from the untrained model over federation `which` (below n_federations): its accuracy. */
    double (*begin)(struct sl_update_source *s, uint32_t which);
    /* The cohort trains the probe epoch: ret_loss[n]. */
    void (*probe)(struct sl_update_source *s, uint32_t round, const uint32_t *cohort, uint32_t n,
                  double *ret_loss);
    /* Accuracy of the mean, by samples, of what those in it trained, started from the model as it
     * stands; of that model when nobody is in. scale[n]: factors on their updates; NULL = 1. */
    double (*reach)(struct sl_update_source *s, const uint8_t *in, const float *scale);
    /* The model that was reached last is the next one. */
    void (*keep)(struct sl_update_source *s);
    void (*free)(struct sl_update_source *s);
};

/* First member of every source. */
struct sl_update_source {
    const struct sl_update_source_ops *ops;
    uint32_t clients, n_classes, n_federations;
    uint32_t epochs;         /* of a whole local training; the first is the probe */
    size_t n_params;         /* of the model; an update is as many floats */
    const uint32_t *samples; /* [clients], of the federation begun */
    struct sl_err failure;   /* the first one; code SL_OK: none. Answers mean nothing after it */
};

static inline void sl_update_source_free(struct sl_update_source *s) /* NULL allowed */
{
    if (s)
        s->ops->free(s);
}

/* The table's federations first .. first + n - 1. Borrows plan and table. */
enum sl_code sl_cached_updates_new(const struct sl_policy_plan *plan,
                                   const struct sl_update_table *table, uint32_t first, uint32_t n,
                                   struct sl_update_source **ret, struct sl_err *err);

/* FedAvg of a run's plan, with the client's and the coordinator's own arithmetic: data, model,
 * training and seed are the plan's, and so is the partition unless `kind` names another
 * (SL_POLICY_PARTITIONS: none does; partitions.h, with a number that no table has). Accuracy is on the test set. Everybody
 * accepted gives the models of `starling-sim run` for the same cohorts, bit for bit. Whom the round
 * accepts goes on from where the probe epoch left it. Borrows the plan. SL_E_INPUT for a plan of
 * other strategies, codecs, or a batch that does not fit a trainer at once. */
enum sl_code sl_real_updates_new(const struct sl_plan *plan, enum sl_policy_partition kind,
                                 uint32_t cohort, struct sl_update_source **ret,
                                 struct sl_err *err);
/* The model as it stands, and its values' number. */
const float *sl_real_updates_model(const struct sl_update_source *s, size_t *ret_n);
/* Hits of each class on the test set, and its samples: ret_hits[n_classes], ret_of[n_classes]. */
enum sl_code sl_real_updates_classes(struct sl_update_source *s, uint32_t *ret_hits,
                                     uint32_t *ret_of, struct sl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* training.h - the two kinds of training that cells are made of: a federated run of a
 * plan through the simulator, and a central training of the same plan's model on the
 * whole training set, as one client would do it. Both are functions of the plan. Thread:
 * any, several at once; each trains on one thread. */
#ifndef SL_SIM_EXPERIMENT_TRAINING_H
#define SL_SIM_EXPERIMENT_TRAINING_H

#include <jansson.h>

#include "accel/nn/model.h"
#include "accel/nn/train.h"
#include "accel/units/setup.h"
#include "common/dataset.h"
#include "common/error.h"
#include "common/plan.h"
#include "sim/attack/attack.h"

/* The plan of a cell, with its seed as run.seed. The caller deinits *ret. */
enum sl_code sl_cell_plan(const json_t *cell, struct sl_plan *ret, struct sl_err *err);

/* What a run leaves behind: its values after the last round, those it published (which a
 * calibration may have changed), and who took part in the last round, in client order. */
struct sl_federated_end {
    float *trained, *published; /* [n_values]; owned; NULL when no round was committed */
    size_t n_values;
    uint32_t *cohort; /* owned */
    size_t n_cohort;
};

void sl_federated_end_deinit(struct sl_federated_end *e); /* NULL, {0} allowed */

/* Runs the plan. *ret: accuracy and loss [rounds] (null where not evaluated), last5 (mean
 * accuracy of the last five evaluations), bytes_up, bytes_down, updates, parameters,
 * wire_bits (bytes_up in bits an update and parameter), virtual_s, cost {macs, work,
 * cycles, energy}, passes (work a multiply-accumulate), model_digest; of calibrations, if
 * there were any, calibration {rounds, before, after, lambda, share}, arrays of equal
 * length: rounds done, accuracy with the old and with the new head, lambda / samples,
 * share of all samples; and `failed` with the reason when the run ended before its time:
 * what was measured until then stays. attack: NULL = all clients are honest. end: NULL
 * allowed; the caller deinits it in every case. */
enum sl_code sl_federated_run(const struct sl_plan *plan, const struct sl_attack *attack,
                              struct sl_federated_end *end, json_t **ret,
                              struct sl_err *err);

/* A head fitted again in closed form, as a calibration does it, but to the training
 * samples of clients[0..n-1] at once (NULL: of all): accuracy on the test set, lambda /
 * samples, and the largest difference to the head in `values`. */
struct sl_refit {
    double accuracy, lambda, apart;
    uint64_t correct, n_test, n_samples;
};

/* values: of the plan's model, e.g. sl_federated_end.trained; against: values whose head
 * is compared, NULL = `values`. SL_E_FAILED: no lambda gives a head. */
enum sl_code sl_refit(const struct sl_plan *plan, const float *values,
                      const float *against, const uint32_t *clients, size_t n,
                      struct sl_refit *ret, struct sl_err *err);

/* A central training: data, model, values as they stand. */
struct sl_central {
    struct sl_dataset train, test;
    struct sl_model *model;
    struct sl_trainer *trainer,
        *judge; /* the judge evaluates, so that ledgers are apart */
    struct sl_unit_setup unit;
    float *values; /* trained */
};

/* Trains on data.limit samples for train.epochs epochs with the plan's accelerator; the
 * schedule counts steps where that of a run counts rounds. *ret: accuracy [epochs],
 * final (the last), passes, cost as above of the training alone, layers [{passes, w, a,
 * g}] of those with products (shares of 4-bit choices, adaptive only), and `failed` when
 * it diverged: epochs not reached then count as the accuracy of a constant answer. The
 * caller deinits *c in every case. */
enum sl_code sl_central_train(struct sl_central *c, const struct sl_plan *plan,
                              json_t **ret, struct sl_err *err);
void sl_central_deinit(struct sl_central *c); /* NULL, {0} allowed */

#endif

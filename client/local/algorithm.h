/* SPDX-License-Identifier: Apache-2.0 */
/* algorithm.h - the client half of a strategy as a const ops table: how to get from the
 * received model to the local one. A new one is one file, one line in local.c and one
 * test. Thread: a worker. */
#ifndef SL_CLIENT_LOCAL_ALGORITHM_H
#define SL_CLIENT_LOCAL_ALGORITHM_H

#include "client/local/local.h"

struct sl_local_algorithm {
    const char *name;
    /* Trains from start (the layout's n_values floats). *ret_values: the local model,
     * borrowed from the trainer until its next use. */
    enum sl_code (*train)(struct sl_trainer *t, const struct sl_local_order *order,
                          const struct sl_local_data *data, const float *start,
                          const float **ret_values, struct sl_train_result *ret_result,
                          struct sl_err *err);
};

/* Plain local training with the plan's optimiser (McMahan et al. 2017, algorithm 1,
 * ClientUpdate). */
extern const struct sl_local_algorithm sl_local_sgd;

#endif

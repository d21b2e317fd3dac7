/* SPDX-License-Identifier: Apache-2.0 */
/* algorithm.h - the client half of a strategy as a const ops table: how to get from the
 * received model to the local one. A new one is one file, one line in local.c and one
 * test. Thread: a worker. */
#ifndef SL_CLIENT_LOCAL_ALGORITHM_H
#define SL_CLIENT_LOCAL_ALGORITHM_H

#include "client/local/local.h"

/* One training: what it starts from, and what it makes. Borrows all of it. */
struct sl_local_work {
    struct sl_trainer *trainer;
    const struct sl_local_order *order;
    const struct sl_local_data *data;
    const float *start; /* the received model, the layout's n_values floats */
    size_t n_params;    /* the first so many of them are trained */
    size_t n_moved;     /* the first so many of them travel: params, then buffers */
    /* Of algorithms with variates [n_moved]: the coordinator's; this client's before and after;
     * what the latter changes by, which goes behind the update. */
    const float *variate;
    float *own_variate, *ret_change;
    const float *values; /* result: the local model, the trainer's until its next use */
    struct sl_train_result result;
};

struct sl_local_algorithm {
    const char *name;
    bool variates;
    /* Changes of the plan's training, and what follows from its result; either may be NULL. *w stays
     * where it is from one to the other. */
    void (*prepare)(struct sl_local_work *w, struct sl_train_spec *spec);
    void (*finish)(struct sl_local_work *w);
};

/* Plain local training with the plan's optimiser (McMahan et al. 2017, algorithm 1,
 * ClientUpdate). */
extern const struct sl_local_algorithm sl_local_sgd, sl_local_fedprox, sl_local_scaffold;

/* The plan's training of this order. */
struct sl_train_spec sl_local_spec(const struct sl_local_work *w);

#endif

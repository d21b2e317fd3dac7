/* SPDX-License-Identifier: Apache-2.0 */
/* partition.h - who owns which samples: a training set cut into clients.
 * A pure function of (plan's partition, labels, seed): all draws come from Philox streams of
 * purpose SL_RNG_PARTITION, and log, exp and pow are ours, so every machine gets the same cut.
 * Owns: its arrays. Thread: any; constant once made. */
#ifndef SL_COMMON_PARTITION_H
#define SL_COMMON_PARTITION_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"

#define SL_PARTITION_ATTEMPTS 1000 /* draws of a Dirichlet partition before it gives up */

struct sl_partition {
    uint32_t clients;
    size_t *offset;  /* [clients + 1] */
    uint32_t *index; /* [offset[clients]]; a client's samples, ascending */
};

/* The labels a partition is made of. */
struct sl_partition_input {
    const int32_t *labels; /* [n], 0..n_classes-1; NULL allowed for iid, quantity and file */
    size_t n;              /* samples */
    uint32_t n_classes;
    uint64_t seed;         /* the run's */
};

void sl_partition_deinit(struct sl_partition *p); /* NULL and {0} allowed */

/* Gives every client at least one sample and every sample to exactly one client (kind file: to
 * at most one). By kind:
 * iid        a random permutation in equal parts (sizes differ by at most 1)
 * dirichlet  Hsu et al. 2019: per class, shares over clients from Dirichlet(alpha), redrawn as a
 *            whole until every client has min_size samples; SL_E_FAILED after
 *            SL_PARTITION_ATTEMPTS (fewer, at least 10, beyond 20000 shares an attempt)
 * shards     McMahan et al. 2017: samples sorted by label, cut into equal shards,
 *            shards_per_client of them each
 * majority   equal parts; `share` of a client's samples have its main label (as long as there are
 *            some left), the others come from what remains
 * quantity   sizes 1 + a part in proportion to rank^-exponent, ranks and samples at random
 * file       lines CLIENT N IDX...; clients 0..clients-1 have one line each; with clients = 0 the
 *            file says how many there are
 * SL_E_RANGE for more clients (shards, minimal sizes) than samples and for parameters out of
 * range; errors of kind file as in common/index_file.h. */
enum sl_code sl_partition_make(const struct sl_plan_partition *how,
                               const struct sl_partition_input *in, struct sl_partition *ret,
                               struct sl_err *err);

/* The samples of a client (below p->clients), *ret_n of them. */
static inline const uint32_t *sl_partition_client(const struct sl_partition *p, uint32_t client,
                                                  size_t *ret_n)
{
    *ret_n = p->offset[client + 1] - p->offset[client];
    return p->index + p->offset[client];
}

/* How many samples of each label a client has: ret_counts[0..n_classes-1]. */
void sl_partition_histogram(const struct sl_partition *p, const int32_t *labels, uint32_t client,
                            uint32_t n_classes, uint32_t *ret_counts);

/* A client's own held-out share of index[0..n-1] (n >= 1, ascending): writes the training samples
 * to ret_index[0..*ret_n_train-1] and the held-out ones behind them, both ascending. Held out are
 * share * n samples, rounded to nearest, but at most n - 1. share is in [0, 1]. A function of
 * (seed, client, n, share): purpose SL_RNG_HOLDOUT. ret_index may be index. */
void sl_holdout_split(const uint32_t *index, size_t n, double share, uint64_t seed,
                      uint32_t client, uint32_t *ret_index, size_t *ret_n_train);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* robust.h - rules that take the mean's place and need the single updates: coordinate by coordinate
 * (median, trimmed mean), or by the distances between updates (Krum, geometric median), which leave
 * shares of a weighted mean. Updates are read in tiles, in their order (ascending by client), so
 * that memory is bounded: rows of one tile, and k^2 distances. Results depend on the updates
 * alone. Owns: its tile. Borrows: rule, plan, source. Thread: one at a time. */
#ifndef SL_SERVER_STRATEGY_ROBUST_H
#define SL_SERVER_STRATEGY_ROBUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"

#define SL_ROBUST_BLOCK 256 /* values that a rule by coordinate is given at a time: they stay in the cache */
#define SL_ROBUST_TILE_BYTES (4u << 20) /* of all updates' rows, when 16 values each fit */

/* k updates of n values that can be read again and again. */
struct sl_update_source {
    void *ctx;
    size_t k, n_values;
    const double *weight; /* [k], > 0 */
    /* How many values from `first` on (0, or where a stretch ended) are read together, at most
     * `most`, which is a multiple of 16. */
    size_t (*stretch)(void *ctx, size_t first, size_t most);
    /* Values first..first+n-1 of an update. */
    enum sl_code (*read)(void *ctx, size_t update, size_t first, size_t n, float *ret,
                         struct sl_err *err);
};

struct sl_rule {
    const char *name;
    size_t (*least)(const struct sl_plan *plan); /* updates that it needs */
    /* By coordinate: rows are k rows of n values (at most SL_ROBUST_BLOCK), `stride` apart; they may be
     * written. ret[n]. */
    void (*combine)(const struct sl_plan *plan, float *rows, size_t k, size_t stride, size_t n,
                    float *ret);
    /* By distance (combine is NULL): ret[k], the shares of the result, from the squared distances
     * [k * k] and the updates' weights. scratch[k]. */
    void (*choose)(const struct sl_plan *plan, const double *square, const double *weight, size_t k,
                   double *scratch, double *ret);
};

extern const struct sl_rule sl_rule_median, sl_rule_trimmed_mean, sl_rule_krum, sl_rule_multi_krum,
    sl_rule_geometric_median;

struct sl_robust {
    const struct sl_rule *rule;
    const struct sl_plan *plan;
    const struct sl_update_source *source;
    float *rows; /* [k][tile], owned */
    size_t tile;
    double *share; /* [k], by distance; owned */
};

/* Goes through the updates once when the rule wants distances. SL_E_FAILED: fewer updates than the
 * rule needs. SL_E_LIMIT: more than SL_PLAN_PAIRED_MAX by distance. What `read` returns. */
enum sl_code sl_robust_init(struct sl_robust *r, const struct sl_rule *rule,
                            const struct sl_plan *plan, const struct sl_update_source *source,
                            struct sl_err *err);
void sl_robust_deinit(struct sl_robust *r); /* NULL, {0} and half built allowed */

/* The result's values from `first` on (0, or where the last tile ended); at most most_values of them, a
 * multiple of 16. *ret_n is how many. */
enum sl_code sl_robust_tile(struct sl_robust *r, size_t first, size_t most_values, float *ret,
                            size_t *ret_n, struct sl_err *err);

/* Sorts every column of rows[k][stride], ascending, columns 0..n-1. Finite values. */
void sl_robust_sort(float *rows, size_t k, size_t stride, size_t n);

#endif

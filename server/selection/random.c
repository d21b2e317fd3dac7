/* SPDX-License-Identifier: Apache-2.0 */
/* Uniform without replacement: the first n_wanted steps of a Fisher-Yates shuffle of the candidates. */
#include "server/selection/selection.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static enum sl_code pick(const struct sl_selection_input *in, uint32_t *ret, size_t *ret_n,
                         struct sl_err *err)
{
    uint32_t *pool = sl_calloc(in->n_candidates, sizeof(*pool));
    if (pool == NULL)
        return sl_err_set(err, SL_E_NOMEM, "selection of %zu clients", in->n_candidates);
    memcpy(pool, in->candidates, in->n_candidates * sizeof(*pool));
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = in->plan->run.seed,
                                        .purpose = SL_RNG_COHORT,
                                        .round = in->round});
    for (size_t i = 0; i < in->n_wanted; i++) {
        size_t j = i + sl_rng_below(&r, in->n_candidates - i);
        uint32_t t = pool[i];
        pool[i] = pool[j];
        pool[j] = t;
    }
    qsort(pool, in->n_wanted, sizeof(*pool), ascending);
    memcpy(ret, pool, in->n_wanted * sizeof(*ret));
    *ret_n = in->n_wanted;
    free(pool);
    return SL_OK;
}

const struct sl_selection_ops sl_selection_random = {"random", pick};

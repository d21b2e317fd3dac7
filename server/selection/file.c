/* SPDX-License-Identifier: Apache-2.0 */
/* The cohorts of a selection file: lines "ROUND CLIENT CLIENT ...". */
#include "server/selection/selection.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/index_file.h"

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static enum sl_code pick(const struct sl_selection_input *in, uint32_t *ret, size_t *ret_n,
                         struct sl_err *err)
{
    size_t n;
    const uint32_t *row = sl_index_find(in->file, in->round, &n);
    if (row == NULL)
        return sl_err_set(err, SL_E_INPUT, "%s: no line for round %" PRIu32,
                          in->plan->selection.path, in->round);
    for (size_t i = 0; i < n; i++)
        if (bsearch(&row[i], in->candidates, in->n_candidates, sizeof(*row), ascending) == NULL)
            return sl_err_set(err, SL_E_INPUT,
                              "%s: round %" PRIu32 ": client %" PRIu32 " is not enrolled",
                              in->plan->selection.path, in->round, row[i]);
    if (n > in->n_candidates)
        return sl_err_set(err, SL_E_INPUT, "%s: round %" PRIu32 ": %zu clients of %zu",
                          in->plan->selection.path, in->round, n, in->n_candidates);
    memcpy(ret, row, n * sizeof(*ret));
    qsort(ret, n, sizeof(*ret), ascending);
    *ret_n = n;
    return SL_OK;
}

const struct sl_selection_ops sl_selection_file = {"file", pick};

/* SPDX-License-Identifier: Apache-2.0 */
/* selection.h - which clients a round asks: a const ops table per policy, one file each. A policy
 * is a pure function of what it is handed; its draws come from the stream
 * (seed, SL_RNG_COHORT, round). Candidates are enrolled indices, connected or not. */
#ifndef SL_SERVER_SELECTION_H
#define SL_SERVER_SELECTION_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"

struct sl_selection_input {
    const struct sl_plan *plan;
    uint32_t round;
    const uint32_t *candidates; /* enrolled indices, ascending */
    size_t n_candidates;
    size_t n_wanted; /* cohort with over-selection: ceil(n * over_select), at most n_candidates */
    const void *file; /* policy file: the parsed selection file, owned by the coordinator */
};

struct sl_selection_ops {
    const char *name;
    /* Writes at most n_candidates indices, ascending and distinct. */
    enum sl_code (*select)(const struct sl_selection_input *in, uint32_t *ret, size_t *ret_n,
                           struct sl_err *err);
};

extern const struct sl_selection_ops sl_selection_random, sl_selection_all, sl_selection_file;

const struct sl_selection_ops *sl_selection_find(const char *name);

#endif

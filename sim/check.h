/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - conformance (DESIGN section 6): runs the cases of a folder through the
 * product's own code. accel/check/cases.h finds the cases and prints their results,
 * check_fl.c runs federated trajectories in the world, check_agg.c runs aggregation rules
 * through the exact sum, accel/nn/check_nn.h runs layers. Thread: main only. Changes
 * nothing on disk but temporary files of its own. */
#ifndef SL_SIM_CHECK_H
#define SL_SIM_CHECK_H

#include <jansson.h>
#include <stdio.h>

#include "accel/check/cases.h"
#include "common/error.h"

struct sl_check {
    struct sl_cases cases;
    unsigned jobs; /* worker threads; 0 = one a core */
};

/* dir: a folder whose manifest.json lists `cases`, one case folder, or a folder of such
 * folders. SL_E_INPUT when there is no case in it at all. What differs is counted, not an
 * error. */
enum sl_code sl_check_run(struct sl_check *c, const char *dir, struct sl_err *err);

/* One case folder each; *manifest is its manifest.json. */
void sl_check_fl(struct sl_check *c, const char *dir, const json_t *manifest);
void sl_check_agg(struct sl_check *c, const char *dir, const json_t *manifest);

#endif

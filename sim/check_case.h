/* SPDX-License-Identifier: Apache-2.0 */
/* check_case.h - the plan of a stored trajectory: everything its manifest says, as the
 * plan that the product runs. Thread: main only. */
#ifndef SL_SIM_CHECK_CASE_H
#define SL_SIM_CHECK_CASE_H

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "common/plan.h"
#include "common/tensor.h"

struct sl_fl_case {
    const char *name, *dir; /* borrowed */
    const json_t *manifest; /* borrowed */
    struct sl_plan plan;
    char steps_path[SL_PLAN_PATH]; /* temporary file of unequal steps; "" = none */
    char start_path[SL_PLAN_PATH]; /* the same of start values */
};

/* SL_E_INPUT with "field, index, expected, got" for what is missing, unknown or not
 * available. */
enum sl_code sl_fl_case_init(struct sl_fl_case *k, const char *dir,
                             const json_t *manifest, struct sl_err *err);
/* The strategy of a robust aggregator and its options in o. SL_E_INPUT when it is unknown. */
enum sl_code sl_fl_case_rule(const char *aggregator, const json_t *o, struct sl_plan *p,
                             struct sl_err *err);
/* The run starts with these values, whatever model.init said. */
enum sl_code sl_fl_case_start(struct sl_fl_case *k, const struct sl_layout *layout,
                              const float *values, struct sl_err *err);
void sl_fl_case_deinit(struct sl_fl_case *k); /* removes the temporary files */

#endif

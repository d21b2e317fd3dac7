/* SPDX-License-Identifier: Apache-2.0 */
/* plan_layers.h - the list `model.layers` of a plan, read into a model spec and printed:
 * "[{conv2d: {out: 32, kernel: 5, pad: 2}}, relu, {maxpool: 2}, flatten, {dense: 10}]".
 * Owns nothing. Thread: any. */
#ifndef SL_COMMON_PLAN_LAYERS_H
#define SL_COMMON_PLAN_LAYERS_H

#include "common/model_spec.h"
#include "common/schema.h"

#define SL_RESIDUAL_DEPTH 3 /* residuals inside residuals, the outermost counted */

/* Replaces *spec, on success only. */
enum sl_code sl_plan_layers_read(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                                 struct sl_model_spec *spec, struct sl_err *err);

/* Appends one "- layer" line a layer, every key of its kind given. */
void sl_plan_layers_print(const struct sl_model_spec *spec, unsigned indent,
                          struct sl_text *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* check_nn.h - runs layer vectors (tests/golden/nn) through the product's layers.
 * Cases lie as stored .npz files beside a manifest.json whose `cases` list name, file,
 * kind, params and fields {dtype, shape, tolerance}; inputs are called in_*, expected
 * outputs out_*. Thread: any. Never changes a file. */
#ifndef SL_ACCEL_NN_CHECK_NN_H
#define SL_ACCEL_NN_CHECK_NN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "accel/check/cases.h"
#include "common/error.h"
#include "common/model_spec.h"

/* Runs every case of the manifest that want(ctx, name) accepts (want NULL = all), once
 * per kernel variant of this CPU; prints `ok NAME` or `not ok NAME: field, index,
 * expected, got` a line to out and adds to *counts (cases left out count as skipped). A
 * missing or damaged file, a field that is missing and an unknown kind are failures of
 * the case. SL_E_INPUT only for a manifest without a list of cases. */
enum sl_code sl_check_nn(const char *dir, const json_t *manifest,
                         bool (*want)(void *ctx, const char *name), void *ctx, FILE *out,
                         struct sl_check_counts *counts, struct sl_err *err);

/* The spec that a vector's list of layers ({"type": "dense", "name": "fc1", "out": 10,
 * ...}) stands for; the vectors of tests/golden/fl have the same. SL_E_INPUT names the
 * layer. */
enum sl_code sl_check_layers(const json_t *layers, struct sl_model_spec *ret,
                             struct sl_err *err);

#endif

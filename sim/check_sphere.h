/* SPDX-License-Identifier: Apache-2.0 */
/* check_sphere.h - the calibration part of a stored trajectory with a fixed head: W* from stored
 * features, and statistics, W* and its loss from the trained model. Thread: main only. */
#ifndef SL_SIM_CHECK_SPHERE_H
#define SL_SIM_CHECK_SPHERE_H

#include <jansson.h>

#include "accel/nn/train.h"
#include "common/partition.h"

struct sl_sphere_case {
    const char *dir;
    const json_t *manifest;
    const struct sl_model *model;
    struct sl_trainer *trainer;
    const struct sl_dataset *set, *test;
    const struct sl_partition *part;
    const float *values; /* the trained model, its head with it */
};

/* SL_E_INPUT with "field, index, expected, got" for what differs. */
enum sl_code sl_check_sphere(const struct sl_sphere_case *k, struct sl_err *err);

#endif

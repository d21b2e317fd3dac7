/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/sum_body.h"

const struct sl_sum_ops sl_sum_ops_avx2 = {
    .add = add, .add_wide = add_wide, .mean = mean, .check = check};

/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/pool_ops.h"

#define OPS_NAME sl_pool_ops_avx512
#include "accel/kernels/pool_body.h"

/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/conv_ops.h"

#define OPS_NAME sl_conv_ops_avx512
#include "accel/kernels/conv_body.h"

/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/conv_ops.h"

#define OPS_NAME sl_conv_ops_avx2
#include "accel/kernels/conv_body.h"

/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/elem_ops.h"

#define OPS_NAME sl_elem_ops_c
#include "accel/kernels/elem_body.h"

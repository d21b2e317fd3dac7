/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/order_body.h"

const struct sl_order_ops sl_order_ops_avx2 = {.exchange = exchange, .distance = distance};

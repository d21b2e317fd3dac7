/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/order_body.h"

const struct sl_order_ops sl_order_ops_c = {.exchange = exchange, .distance = distance};

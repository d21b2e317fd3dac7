/* SPDX-License-Identifier: Apache-2.0 */
/* conv_geometry.h - shapes of layers that move a window over planes; for accel/nn only.
 */
#ifndef SL_ACCEL_NN_CONV_GEOMETRY_H
#define SL_ACCEL_NN_CONV_GEOMETRY_H

#include "accel/nn/layer.h"

/* Sets l->out to [channels, (h + 2 pad - kernel) / stride + 1, ...] from l->in and the
 * spec; SL_E_INPUT when the input is not [C,H,W] or a number does not fit. */
enum sl_code sl_window_shape(struct sl_layer *l, uint32_t channels, struct sl_err *err);

/* Of a built conv2d layer. */
struct sl_conv_geometry sl_conv_geometry_of(const struct sl_layer *l);

#endif

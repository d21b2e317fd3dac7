/* SPDX-License-Identifier: Apache-2.0 */
/* received.h - the model as a worker wants it, one vector, from what arrived: the values that travel,
 * and a fixed head that came once. Owns: the joined vector; a model without a head is used where it
 * lies. Thread: a worker; one sl_received a thread. */
#ifndef SL_CLIENT_RECEIVED_H
#define SL_CLIENT_RECEIVED_H

#include <stddef.h>

#include "common/error.h"
#include "common/tensor.h"

struct sl_received {
    float *values; /* {0} is valid */
    size_t n;
};

void sl_received_deinit(struct sl_received *r);

/* Bytes of the layout's fixed head; 0 = none. */
size_t sl_received_head_bytes(const struct sl_layout *layout);

/* *ret: the layout's values, then n_behind more that came behind the travelling ones. model: all that
 * travelled; head: NULL when the layout has none. Valid until r's next use, and as long as model.
 * SL_E_NOMEM. */
enum sl_code sl_received_join(struct sl_received *r, const struct sl_layout *layout,
                              const float *model, size_t n_behind, const float *head,
                              const float **ret, struct sl_err *err);

#endif

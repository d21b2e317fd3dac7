/* SPDX-License-Identifier: Apache-2.0 */
#include "client/local/received.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

void sl_received_deinit(struct sl_received *r)
{
    if (r == NULL)
        return;
    free(r->values);
    *r = (struct sl_received){0};
}

size_t sl_received_head_bytes(const struct sl_layout *layout)
{
    return (layout->n_values - sl_layout_travelling(layout)) * sizeof(float);
}

enum sl_code sl_received_join(struct sl_received *r, const struct sl_layout *layout,
                              const float *model, size_t n_behind, const float *head,
                              const float **ret, struct sl_err *err)
{
    size_t moving = sl_layout_travelling(layout), n = layout->n_values + n_behind;
    if (moving == layout->n_values) {
        *ret = model;
        return SL_OK;
    }
    if (r->n != n) {
        sl_received_deinit(r);
        r->values = sl_calloc(n, sizeof(*r->values));
        if (r->values == NULL)
            return sl_err_set(err, SL_E_NOMEM, "model of %zu values", n);
        r->n = n;
    }
    memcpy(r->values, model, moving * sizeof(float));
    memcpy(r->values + moving, head, (layout->n_values - moving) * sizeof(float));
    memcpy(r->values + layout->n_values, model + moving, n_behind * sizeof(float));
    *ret = r->values;
    return SL_OK;
}

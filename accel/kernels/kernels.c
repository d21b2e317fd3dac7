/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/kernels.h"

void sl_kernels_init(struct sl_kernels *k, uint32_t cpu)
{
    sl_elem_ops_init(&k->elem, cpu);
    sl_conv_ops_init(&k->conv, cpu);
    sl_pool_ops_init(&k->pool, cpu);
    sl_bfp_ops_init(&k->bfp, cpu);
    sl_tr_ops_init(&k->tr, cpu);
    sl_rtn_ops_init(&k->rtn, cpu);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/order_ops.h"

#include "accel/kernels/cpu.h"

const struct sl_order_ops *sl_order_ops(uint32_t cpu)
{
#ifdef SL_HAVE_AVX512
    if (cpu & SL_CPU_AVX512)
        return &sl_order_ops_avx512;
#endif
#ifdef SL_HAVE_AVX2
    if (cpu & SL_CPU_AVX2)
        return &sl_order_ops_avx2;
#endif
    (void)cpu;
    return &sl_order_ops_c;
}

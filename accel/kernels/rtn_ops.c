/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/rtn_ops.h"

#include "accel/kernels/cpu.h"

void sl_rtn_ops_init(struct sl_rtn_ops *ops, uint32_t cpu)
{
    *ops = sl_rtn_ops_c;
#if defined(SL_HAVE_AVX2)
    if (cpu & SL_CPU_AVX2)
        *ops = sl_rtn_ops_avx2;
#endif
#if defined(SL_HAVE_AVX512)
    if (cpu & SL_CPU_AVX512)
        *ops = sl_rtn_ops_avx512;
    if ((cpu & SL_CPU_AVX512) && (cpu & SL_CPU_VPOPCNTDQ))
        ops->dots = sl_rtn_dots_vpopcntdq;
#endif
#if defined(SL_HAVE_NEON)
    if (cpu & SL_CPU_NEON)
        *ops = sl_rtn_ops_neon;
#endif
}

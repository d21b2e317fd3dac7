/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/tr_ops.h"

#include "accel/kernels/cpu.h"

void sl_tr_ops_init(struct sl_tr_ops *ops, uint32_t cpu)
{
    *ops = sl_tr_ops_c;
#if defined(SL_HAVE_AVX2)
    if (cpu & SL_CPU_AVX2)
        *ops = sl_tr_ops_avx2;
#endif
#if defined(SL_HAVE_AVX512)
    if (cpu & SL_CPU_AVX512)
        *ops = sl_tr_ops_avx512;
#endif
#if defined(SL_HAVE_NEON)
    if (cpu & SL_CPU_NEON)
        *ops = sl_tr_ops_neon;
#endif
}

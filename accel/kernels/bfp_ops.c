/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/bfp_ops.h"

#include "accel/kernels/cpu.h"

void sl_bfp_ops_init(struct sl_bfp_ops *ops, uint32_t cpu)
{
    *ops = sl_bfp_ops_c;
#if defined(SL_HAVE_AVX2)
    if (cpu & SL_CPU_AVX2)
        *ops = sl_bfp_ops_avx2;
#endif
#if defined(SL_HAVE_AVX512)
    if (cpu & SL_CPU_AVX512)
        *ops = sl_bfp_ops_avx512;
    if ((cpu & SL_CPU_AVX512) && (cpu & SL_CPU_AVX512_VNNI))
        ops->product = sl_bfp_product_vnni;
#endif
#if defined(SL_HAVE_NEON)
    if (cpu & SL_CPU_NEON)
        *ops = sl_bfp_ops_neon;
    if ((cpu & SL_CPU_NEON) && (cpu & SL_CPU_DOTPROD))
        ops->product = sl_bfp_product_dotprod;
#endif
}

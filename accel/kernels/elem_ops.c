/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/elem_ops.h"

#include "accel/kernels/cpu.h"

void sl_elem_ops_init(struct sl_elem_ops *ops, uint32_t cpu)
{
    *ops = sl_elem_ops_c;
#if defined(SL_HAVE_AVX2)
    if (cpu & SL_CPU_AVX2)
        *ops = sl_elem_ops_avx2;
#endif
#if defined(SL_HAVE_AVX512)
    if (cpu & SL_CPU_AVX512)
        *ops = sl_elem_ops_avx512;
#endif
}

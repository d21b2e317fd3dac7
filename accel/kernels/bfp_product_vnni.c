/* SPDX-License-Identifier: Apache-2.0 */
#include <immintrin.h>

static inline __m512i dot(__m512i acc, __m512i a, __m512i b)
{
    return _mm512_dpbusd_epi32(acc, a, b);
}

#include "accel/kernels/bfp_avx512.h"

void sl_bfp_product_vnni(const struct sl_bfp_product *p)
{
    product_tiles(p);
}

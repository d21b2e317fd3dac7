/* SPDX-License-Identifier: Apache-2.0 */
/* fmath.h - exp, tanh and erf in float, without branches, so that loops over them
 * vectorise and every CPU returns the same bits. Plain IEEE operations in written order;
 * polynomials are least-squares fits over Chebyshev nodes. Errors stand at each function
 * (ulp of the result, measured by tests/unit/t_nn_fmath.c). */
#ifndef SL_ACCEL_KERNELS_FMATH_H
#define SL_ACCEL_KERNELS_FMATH_H

#include <stdint.h>
#include <string.h>

static inline float sl_float_of_bits(uint32_t b)
{
    float f;
    memcpy(&f, &b, sizeof(f));
    return f;
}

static inline uint32_t sl_bits_of_float(float f)
{
    uint32_t b;
    memcpy(&b, &f, sizeof(b));
    return b;
}

/* exp(x), 2 ulp; inf above 88.73, 0 below -104; a NaN stays. x = k ln 2 + r with |r| <=
 * ln(2)/2; 2^k in two factors, so results below the normal range are rounded once. */
static inline float sl_expf(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float c = x > 89.0f ? 89.0f : x;
    c = c < -104.0f ? -104.0f : c;
    float k = (c * 1.44269504f + magic) - magic;
    float r = (c - k * 0.693359375f) - k * -2.12194440e-4f;
    float p = 1.990043180e-4f;
    p = p * r + 1.3934535106e-3f;
    p = p * r + 8.3332970779e-3f;
    p = p * r + 4.1666456859e-2f;
    p = p * r + 1.6666666722e-1f;
    p = p * r + 5.0000000143e-1f;
    float e = (p * r) * r + r + 1.0f;
    int32_t i = (int32_t)(k == k ? k : 0.0f);
    int32_t half = i >> 1;
    float s1 = sl_float_of_bits((uint32_t)(half + 127) << 23);
    float s2 = sl_float_of_bits((uint32_t)(i - half + 127) << 23);
    return e * s1 * s2;
}

/* tanh(x), 2 ulp. Odd polynomial below 0.625, else 1 - 2 / (exp(2x) + 1). */
static inline float sl_tanhf(float x)
{
    float a = x < 0.0f ? -x : x;
    float z = x * x;
    float p = 2.2958604308e-3f;
    p = p * z + -8.3470010842e-3f;
    p = p * z + 2.1769968960e-2f;
    p = p * z + -5.3959407283e-2f;
    p = p * z + 1.3333304287e-1f;
    p = p * z + -3.3333333178e-1f;
    float small = x + x * (z * p);
    float big = 1.0f - 2.0f / (sl_expf(2.0f * a) + 1.0f);
    big = x < 0.0f ? -big : big;
    return a < 0.625f ? small : big;
}

/* erf(x), 3 ulp. Odd polynomial below 1, else 1 - exp(-q(|x|)), q a fit of -log(erfc). */
static inline float sl_erff(float x)
{
    float a = x < 0.0f ? -x : x;
    float z = x * x;
    float p = -9.6735905754e-06f;
    p = p * z + 1.1268253822e-04f;
    p = p * z + -8.4843965417e-04f;
    p = p * z + 5.2210534120e-03f;
    p = p * z + -2.6865438310e-02f;
    p = p * z + 1.1283782622e-01f;
    p = p * z + -3.7612638476e-01f;
    p = p * z + 1.1283791671e+00f;
    float small = x * p;
    float c = a > 4.0f ? 4.0f : a; /* erf(4) rounds to 1 */
    float q = -1.4684303581e-6f;
    q = q * c + 4.3083254640e-5f;
    q = q * c + -5.7463638631e-4f;
    q = q * c + 4.6684515444e-3f;
    q = q * c + -2.6195005146e-2f;
    q = q * c + 1.0973309523e-1f;
    q = q * c + 6.3214810756e-1f;
    q = q * c + 1.1300678238f;
    q = q * c + -2.8394200407e-4f;
    float big = 1.0f - sl_expf(-q);
    big = x < 0.0f ? -big : big;
    return a < 1.0f ? small : big;
}

#endif

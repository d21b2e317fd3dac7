/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of about 106 bits are unevaluated sums hi + lo of two doubles (Dekker 1971, "A
 * floating-point technique for extending the available precision"; Knuth, TAOCP 2, 4.2.2).
 * log works in such pairs throughout, so it is rounded once, and pow can multiply it by y and
 * still have an exponent that is good to 2^-60. Polynomials are the plain Taylor series: their
 * coefficients are quotients of small integers, which every IEEE compiler rounds alike. */
#include "common/fdmath.h"

#include <stdint.h>
#include <string.h>

/* ln 2 = LN2_HI + LN2_LO; LN2_HI has 42 bits, so that k * LN2_HI is exact for |k| < 2^11 */
#define LN2_HI 0x1.62e42fefa3800p-1
#define LN2_LO 0x1.ef35793c76730p-45
#define SQRT_HALF 0x1.6a09e667f3bcdp-1
#define SQRT_TWO 0x1.6a09e667f3bcdp+0

struct pair {
    double hi, lo;
};

static uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static double of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static double infinity_of(double sign)
{
    return of_bits(sign < 0 ? 0xfff0000000000000u : 0x7ff0000000000000u);
}

static double not_a_number(void)
{
    return of_bits(0x7ff8000000000000u);
}

/* a + b exactly; |a| >= |b| or a = 0 */
static struct pair quick_sum(double a, double b)
{
    double s = a + b;
    return (struct pair){s, b - (s - a)};
}

/* a + b exactly */
static struct pair exact_sum(double a, double b)
{
    double s = a + b;
    double v = s - a;
    return (struct pair){s, (a - (s - v)) + (b - v)};
}

/* a in two halves of at most 26 bits */
static struct pair halves(double a)
{
    double t = 134217729.0 * a; /* 2^27 + 1 */
    double hi = t - (t - a);
    return (struct pair){hi, a - hi};
}

/* a * b exactly */
static struct pair exact_product(double a, double b)
{
    double p = a * b;
    struct pair x = halves(a), y = halves(b);
    return (struct pair){p, ((x.hi * y.hi - p) + x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo};
}

static struct pair pair_add(struct pair a, struct pair b)
{
    struct pair s = exact_sum(a.hi, b.hi);
    return quick_sum(s.hi, s.lo + (a.lo + b.lo));
}

static struct pair pair_mul(struct pair a, struct pair b)
{
    struct pair p = exact_product(a.hi, b.hi);
    return quick_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

/* a / b for a double a */
static struct pair pair_div(double a, struct pair b)
{
    double q = a / b.hi;
    struct pair p = exact_product(q, b.hi);
    double rest = ((a - p.hi) - p.lo) - q * b.lo;
    return quick_sum(q, rest / b.hi);
}

/* x = 2^k m with m in [sqrt(1/2), sqrt(2)); x finite and > 0 */
static double split_power(double x, int *ret_k)
{
    int k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t u = bits_of(x);
    k += (int)(u >> 52) - 1023;
    double m = of_bits((u & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    if (m >= SQRT_TWO) {
        m *= 0.5;
        k++;
    }
    *ret_k = k;
    return m;
}

/* log x for finite x > 0. With s = (m - 1) / (m + 1): log m = 2 (s + s^3/3 + s^5/5 + ...).
 * |s| < 0.172, so the terms from s^5 on weigh below 2^-12 of the sum and plain doubles do for
 * them; s^29/29 lies below 2^-70 of it and is left out. */
static struct pair log_pair(double x)
{
    int k;
    double m = split_power(x, &k);
    struct pair s = pair_div(m - 1.0, exact_sum(m, 1.0));
    struct pair z = pair_mul(s, s);
    double w = z.hi;
    double t = 1.0 / 27.0;
    for (int d = 25; d >= 5; d -= 2)
        t = t * w + 1.0 / d;
    struct pair third = {1.0 / 3.0, 0x1.5555555555555p-56}; /* 1/3 */
    struct pair inner = pair_add(third, (struct pair){t * w, 0.0});
    struct pair cubic = pair_mul(pair_mul(s, z), inner);
    struct pair half_log = pair_add(s, cubic);
    struct pair log_m = {2.0 * half_log.hi, 2.0 * half_log.lo};
    if (k == 0)
        return log_m;
    return pair_add(quick_sum(k * LN2_HI, k * LN2_LO), log_m);
}

double sl_log(double x)
{
    if (x != x)
        return x;
    if (x < 0)
        return not_a_number();
    if (x == 0)
        return infinity_of(-1);
    if (x == infinity_of(1))
        return x;
    struct pair r = log_pair(x);
    return r.hi + r.lo;
}

/* 2^k for -1022 <= k <= 1023 */
static double power_of_two(int k)
{
    return of_bits((uint64_t)(k + 1023) << 52);
}

/* exp(a.hi + a.lo); |a.hi| <= 746. With k the integer nearest to a / ln 2 and r the rest,
 * |r| < 0.347: exp a = 2^k (1 + r + r^2/2 + ... + r^15/15!); the next term is below 2^-62. */
static double exp_pair(struct pair a)
{
    int k = (int)(a.hi * (1.0 / 0x1.62e42fefa39efp-1) + (a.hi < 0 ? -0.5 : 0.5));
    double near = a.hi - k * LN2_HI; /* exact: both are close, or k is 0 */
    double low = k * LN2_LO;
    double r = near - low;
    double rest = ((near - r) - low) + a.lo;
    double t = 1.0;
    for (int n = 15; n >= 3; n--)
        t = 1.0 + t * r / n;
    double tail = 0.5 * r * r * t;
    /* exp(r + rest) = exp(r) + rest exp(r), where rest can be hundreds of ulps of r */
    double e = 1.0 + (r + (tail + rest * (1.0 + (r + tail))));
    /* two factors, for 2^k alone can lie outside the range of doubles */
    int first = k / 2;
    return e * power_of_two(first) * power_of_two(k - first);
}

double sl_exp(double x)
{
    if (x != x)
        return x;
    if (x > 709.8)
        return infinity_of(1);
    if (x < -745.2)
        return 0.0;
    return exp_pair((struct pair){x, 0.0});
}

/* 0, infinite or NaN x, infinite or NaN y; as IEEE 754 pow */
static double pow_special(double x, double y)
{
    if (x != x || y != y || x < 0)
        return not_a_number();
    if (x == 0 || x == infinity_of(1))
        return (x == 0) == (y > 0) ? 0.0 : infinity_of(1);
    return (x < 1) == (y > 0) ? 0.0 : infinity_of(1);
}

double sl_pow(double x, double y)
{
    if (y == 0 || x == 1)
        return 1.0;
    double inf = infinity_of(1);
    if (!(x > 0) || x == inf || y != y || y == inf || y == -inf)
        return pow_special(x, y);
    struct pair l = log_pair(x);
    double rough = y * l.hi;
    if (rough > 709.8)
        return inf;
    if (rough < -745.2)
        return 0.0;
    struct pair p = exact_product(y, l.hi);
    return exp_pair(quick_sum(p.hi, p.lo + y * l.lo));
}

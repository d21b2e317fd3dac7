/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rng.h"

#include <assert.h>
#include <math.h>

#include "common/fdmath.h"

#define PHILOX_ROUNDS 10
#define GOLDEN 0x9e3779b97f4a7c15u /* splitmix64's step: 2^64 / golden ratio, odd */

void sl_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret_out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < PHILOX_ROUNDS; i++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0;
        uint64_t p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u; /* Weyl sequences: golden ratio, sqrt(3) - 1 */
        k1 += 0xbb67ae85u;
    }
    ret_out[0] = c0;
    ret_out[1] = c1;
    ret_out[2] = c2;
    ret_out[3] = c3;
}

uint64_t sl_splitmix64(uint64_t *state)
{
    uint64_t z = (*state += GOLDEN);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sl_splitmix64_at(uint64_t seed, uint64_t i)
{
    uint64_t state = seed + i * GOLDEN;
    return sl_splitmix64(&state);
}

/* Half of a stream's identity. A step is a bijection of the running value for a given field and
 * of the field for a given value, so ids that differ in one field never meet in a lane. */
static uint64_t fold(const struct sl_rng_id *id, uint64_t lane)
{
    const uint32_t field[] = {id->purpose, id->client, id->round, id->step, id->tensor};
    uint64_t h = id->seed ^ lane;
    h = sl_splitmix64_at(h, 0);
    for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++)
        h = sl_splitmix64_at(h ^ field[i], 0);
    return h;
}

void sl_rng_init(struct sl_rng *r, const struct sl_rng_id *id)
{
    uint64_t key = fold(id, 0);
    *r = (struct sl_rng){
        .key = {(uint32_t)key, (uint32_t)(key >> 32)},
        .hi = fold(id, 0xd1b54a32d192ed03u), /* any constant but 0 makes a second lane */
    };
}

static void make_block(const struct sl_rng *r, uint64_t block, uint32_t ret_out[4])
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)r->hi,
                                 (uint32_t)(r->hi >> 32)};
    sl_philox(counter, r->key, ret_out);
}

uint32_t sl_rng_at(const struct sl_rng *r, uint64_t i)
{
    uint32_t out[4];
    make_block(r, i / 4, out);
    return out[i % 4];
}

uint32_t sl_rng_u32(struct sl_rng *r)
{
    if (r->left == 0) {
        make_block(r, r->block++, r->out);
        r->left = 4;
    }
    return r->out[4 - r->left--];
}

/* low word first */
uint64_t sl_rng_u64(struct sl_rng *r)
{
    uint64_t lo = sl_rng_u32(r);
    return lo | (uint64_t)sl_rng_u32(r) << 32;
}

double sl_rng_f64(struct sl_rng *r)
{
    return (double)(sl_rng_u64(r) >> 11) * 0x1p-53;
}

float sl_rng_f32(struct sl_rng *r)
{
    return (float)(sl_rng_u32(r) >> 8) * 0x1p-24f;
}

uint64_t sl_rng_below(struct sl_rng *r, uint64_t n)
{
    assert(n >= 1);
    /* the lowest 2^64 mod n values are thrown away: what is left is a multiple of n */
    uint64_t skip = (0 - n) % n;
    uint64_t x;
    do
        x = sl_rng_u64(r);
    while (x < skip);
    return x % n;
}

/* log of a uniform number in (0, 1] */
static double log_uniform(struct sl_rng *r)
{
    return sl_log(1.0 - sl_rng_f64(r));
}

/* Marsaglia and Bray 1964; the second value of a pair is not kept, so that a draw leaves no
 * state but the position in the stream */
double sl_rng_normal(struct sl_rng *r)
{
    double u, v, s;
    do {
        u = 2.0 * sl_rng_f64(r) - 1.0;
        v = 2.0 * sl_rng_f64(r) - 1.0;
        s = u * u + v * v;
    } while (s >= 1.0 || s == 0.0);
    return u * sqrt(-2.0 * sl_log(s) / s);
}

double sl_rng_exponential(struct sl_rng *r)
{
    return -log_uniform(r);
}

/* shape >= 1. Marsaglia and Tsang 2000, "A simple method for generating gamma variables". */
static double gamma_large(struct sl_rng *r, double shape)
{
    double d = shape - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = sl_rng_normal(r);
        double v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        if (log_uniform(r) < 0.5 * x * x + d - d * v + d * sl_log(v))
            return d * v;
    }
}

/* log of a gamma variable; below shape 1: gamma(a) = gamma(a + 1) U^(1/a) */
static double log_gamma_draw(struct sl_rng *r, double shape)
{
    if (shape >= 1.0)
        return sl_log(gamma_large(r, shape));
    double g = sl_log(gamma_large(r, shape + 1.0));
    /* keeps log(U) / shape finite */
    return g + log_uniform(r) / (shape < 1e-300 ? 1e-300 : shape);
}

double sl_rng_gamma(struct sl_rng *r, double shape)
{
    assert(shape > 0);
    return shape >= 1.0 ? gamma_large(r, shape) : sl_exp(log_gamma_draw(r, shape));
}

void sl_rng_dirichlet(struct sl_rng *r, double alpha, double *ret_p, size_t n)
{
    assert(alpha > 0);
    if (n == 0)
        return;
    double largest = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        ret_p[i] = log_gamma_draw(r, alpha);
        if (ret_p[i] > largest)
            largest = ret_p[i];
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        ret_p[i] = sl_exp(ret_p[i] - largest);
        sum += ret_p[i];
    }
    for (size_t i = 0; i < n; i++)
        ret_p[i] /= sum;
}

void sl_rng_shuffle_u32(struct sl_rng *r, uint32_t *v, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)sl_rng_below(r, i);
        uint32_t t = v[i - 1];
        v[i - 1] = v[j];
        v[j] = t;
    }
}

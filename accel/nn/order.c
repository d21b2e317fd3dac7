/* SPDX-License-Identifier: Apache-2.0 */
/* order.c - in which order an epoch visits its samples. */
#include "accel/nn/train.h"
#include "common/rng.h"

/* Merges the sorted runs [lo, mid) and [mid, hi) of `from` by key into `to`; equal keys
 * keep their order. */
static void merge(const uint64_t *key, const uint32_t *from, size_t lo, size_t mid,
                  size_t hi, uint32_t *to)
{
    size_t a = lo, b = mid;
    for (size_t i = lo; i < hi; i++) {
        if (a < mid && (b >= hi || key[from[a]] <= key[from[b]]))
            to[i] = from[a++];
        else
            to[i] = from[b++];
    }
}

/* Stable argsort from runs of one upwards. */
static void argsort(const uint64_t *key, size_t n, uint32_t *spare, uint32_t *ret_order)
{
    uint32_t *from = ret_order, *to = spare;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * run) {
            size_t mid = lo + run < n ? lo + run : n;
            size_t hi = mid + run < n ? mid + run : n;
            merge(key, from, lo, mid, hi, to);
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; from != ret_order && i < n; i++)
        ret_order[i] = from[i];
}

void sl_sample_order(enum sl_order order, uint64_t seed, uint32_t round, uint32_t client,
                     uint32_t epoch, size_t n, uint64_t *scratch, uint32_t *ret_order)
{
    for (size_t i = 0; i < n; i++)
        ret_order[i] = (uint32_t)i;
    if (order == SL_ORDER_BENCH) {
        uint64_t state =
            (seed << 48) ^ ((uint64_t)round << 32) ^ ((uint64_t)client << 16) ^ epoch;
        for (size_t i = 0; i < n; i++)
            scratch[i] = sl_splitmix64(&state);
        argsort(scratch, n, (uint32_t *)(scratch + n), ret_order);
        return;
    }
    struct sl_rng_id id = {.seed = seed,
                           .purpose = SL_RNG_ORDER,
                           .client = client,
                           .round = round,
                           .step = epoch};
    struct sl_rng r;
    sl_rng_init(&r, &id);
    sl_rng_shuffle_u32(&r, ret_order, n);
}

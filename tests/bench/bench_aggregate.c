/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of the exact sum against the rate of memcpy, in turn in one run. A value of the sum moves 20
 * bytes (4 of the update in; 8 of the accumulator in, 8 out), a copied byte moves two (in, out).
 * bench_aggregate [VALUES] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"
#include "tests/bench/bench.h"
#include "server/aggregate.h"

#define TURNS 41

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1663370;
    struct sl_sum_bounds bounds = {.max_abs = 8, .sum_weight = 1000000, .fraction_bits = 32};
    struct sl_sum sum;
    struct sl_err err;
    float *x = malloc(n * sizeof(*x));
    char *from = malloc(10 * n), *to = malloc(10 * n);
    if (n == 0 || x == NULL || from == NULL || to == NULL ||
        sl_sum_bounds_fit(&bounds, &err) != SL_OK || sl_sum_init(&sum, n, &bounds, &err) != SL_OK) {
        fprintf(stderr, "bench_aggregate: no memory for %zu values\n", n);
        return 1;
    }
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)(i % 1000) * 1e-5 - 5e-3);
    memset(from, 1, 10 * n);
    memset(to, 2, 10 * n);
    double add[TURNS], copy[TURNS], check[TURNS];
    for (int turn = -1; turn < TURNS; turn++) {
        double a = now_s();
        sl_sum_add_tile(&sum, 0, x, n, 600, 1.0);
        double b = now_s();
        memcpy(to, from, 10 * n);
        double c = now_s();
        if (sl_update_check(x, n, 1.0, 8) != n)
            return 1;
        double d = now_s();
        if (turn < 0)
            continue; /* pages are touched */
        add[turn] = b - a;
        copy[turn] = c - b;
        check[turn] = d - c;
    }
    double rate = 20.0 * (double)n / median(add, TURNS) * 1e-9, floor_rate = 20.0 * (double)n / median(copy, TURNS) * 1e-9;
    printf("%zu values: sum %.1f GB/s, copy %.1f GB/s (in and out), ratio %.2f (goal 0.40); check of values %.1f "
           "GB/s\n",
           n, rate, floor_rate, rate / floor_rate, 4.0 * (double)n / median(check, TURNS) * 1e-9);
    sl_sum_deinit(&sum);
    free(x);
    free(from);
    free(to);
    return 0;
}

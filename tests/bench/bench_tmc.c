/* SPDX-License-Identifier: Apache-2.0 */
/* Nanoseconds that the gate takes for a message: at the sender alone, and with the record made, parsed
 * and put into an inbox. Constant, walking and white vectors; medians of turns. bench_tmc [WIDTH] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/rng.h"
#include "common/tmc.h"
#include "tests/bench/bench.h"

#define TURNS 41
#define MESSAGES 20000

static const struct form {
    const char *name;
    double step;
} forms[] = {{"constant", 0}, {"walk", .02}, {"white", 1}};

/* The vectors of a form, one behind the other. */
static void fill(const struct form *f, uint32_t width, float *v)
{
    struct sl_rng rng;
    const struct sl_rng_id id = {.seed = 1, .purpose = SL_RNG_TEST};
    sl_rng_init(&rng, &id);
    for (size_t i = 0; i < (size_t)MESSAGES * width; i++) {
        double before = i < width || f->step == 1 ? 0 : (double)v[i - width];
        v[i] = (float)(before + f->step * sl_rng_normal(&rng));
    }
}

/* Offers all of v; ns a message. */
static double time_offers(const struct sl_tmc_options *o, const float *v, uint64_t *ret_sent)
{
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    sl_tmc_gate_start(&g, o, 0, 1);
    double from = now_s();
    for (uint32_t t = 0; t < MESSAGES; t++)
        sl_tmc_offer(&g, t, t, v + (size_t)t * o->width, &r);
    double to = now_s();
    *ret_sent = g.counters.sent;
    return (to - from) / MESSAGES * 1e9;
}

/* The same, and through bytes into the inbox; NaN when a record does not parse. */
static double time_both_ends(const struct sl_tmc_options *o, const float *v,
                             struct sl_tmc_inbox *inbox)
{
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    uint8_t bytes[SL_TMC_RECORD_MAX];
    sl_tmc_gate_start(&g, o, 0, 1);
    sl_tmc_inbox_clear(inbox);
    double from = now_s();
    for (uint32_t t = 0; t < MESSAGES; t++) {
        if (sl_tmc_is_sent(sl_tmc_offer(&g, t, t, v + (size_t)t * o->width, &r))) {
            size_t n = sl_tmc_record_put(&r, bytes);
            if (sl_tmc_record_get(bytes, n, &r, NULL) != SL_OK)
                return NAN;
            sl_tmc_receive(inbox, t, 0, &r);
        }
        sl_tmc_settle(inbox, t);
    }
    return (now_s() - from) / MESSAGES * 1e9;
}

int main(int argc, char **argv)
{
    uint32_t width = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 10;
    struct sl_tmc_options o = sl_tmc_defaults(width);
    struct sl_err err;
    struct sl_tmc_inbox inbox;
    if (sl_tmc_check(&o, &err) != SL_OK || sl_tmc_inbox_init(&inbox, &o, 1, &err) != SL_OK) {
        fprintf(stderr, "bench_tmc: %s\n", err.msg);
        return 2;
    }
    float *v = calloc((size_t)MESSAGES * width, sizeof(*v));
    if (v == NULL)
        return 1;
    for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
        double offers[TURNS], both[TURNS];
        uint64_t sent = 0;
        fill(&forms[f], width, v);
        for (int turn = 0; turn < TURNS; turn++) {
            offers[turn] = time_offers(&o, v, &sent);
            both[turn] = time_both_ends(&o, v, &inbox);
        }
        printf("%-8s width %u: %5.1f ns offered, %5.1f ns with record, parsing and inbox; "
               "%.1f %% sent\n",
               forms[f].name, width, median(offers, TURNS), median(both, TURNS), 100.0 * (double)sent / MESSAGES);
    }
    free(v);
    sl_tmc_inbox_deinit(&inbox);
    return 0;
}

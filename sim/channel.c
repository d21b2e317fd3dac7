/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/channel.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/mem.h"
#include "common/rng.h"

#define STATES_MAX 8

static const struct chain {
    const char *name;
    uint8_t n;               /* states */
    double back[STATES_MAX]; /* b_i */
} chains[SL_CHANNEL_LEVELS] = {
    [SL_CHANNEL_NONE] = {"none", 1, {1}},
    [SL_CHANNEL_LIGHT] = {"light", 3, {.99, .85, .91}},
    [SL_CHANNEL_MEDIUM] = {"medium", 6, {.94, .60, .71, .87, .97, .99}},
    [SL_CHANNEL_HEAVY] = {"heavy", 8, {.90, .81, .45, .61, .37, .77, .89, .93}},
};

struct pair {
    struct sl_rng rng;
    uint8_t state;
};

struct sl_channel {
    const struct chain *chain;
    uint32_t n;
    uint64_t seed, step;
    struct pair *pairs; /* [n, n]: from, to */
};

const char *sl_channel_name(enum sl_channel_level level)
{
    return (unsigned)level < SL_CHANNEL_LEVELS ? chains[level].name : NULL;
}

/* Stationary weights: w_0 = 1, w_i = w_{i-1} (1 - b_{i-1}), and the last state keeps what stays in it.
 * A run starts in state 1, so the mean run is the losing weight by that of state 1's entries. */
void sl_channel_expect(enum sl_channel_level level, double *ret_loss, double *ret_burst)
{
    const struct chain *c = &chains[level];
    double w = 1, lost = 0;
    for (uint8_t i = 1; i < c->n; i++) {
        w *= 1 - c->back[i - 1];
        lost += i + 1 == c->n ? w / c->back[i] : w;
    }
    *ret_loss = lost / (1 + lost);
    *ret_burst = c->n == 1 ? 0 : lost / (1 - c->back[0]);
}

enum sl_code sl_channel_new(enum sl_channel_level level, uint32_t n, uint64_t seed,
                            struct sl_channel **ret, struct sl_err *err)
{
    if (n < 1 || n > SL_CHANNEL_PARTIES_MAX)
        return sl_err_set(err, SL_E_RANGE, "channel of %" PRIu32 " parties (1 to %u)", n,
                          SL_CHANNEL_PARTIES_MAX);
    struct sl_channel *c = sl_calloc(1, sizeof(*c));
    struct pair *pairs = sl_calloc((size_t)n * n, sizeof(*pairs));
    if (c == NULL || pairs == NULL) {
        free(c);
        free(pairs);
        return sl_err_set(err, SL_E_NOMEM, "channel of %" PRIu32 " parties", n);
    }
    *c = (struct sl_channel){.chain = &chains[level], .n = n, .seed = seed, .pairs = pairs};
    sl_channel_reset(c, 0);
    *ret = c;
    return SL_OK;
}

void sl_channel_free(struct sl_channel *c)
{
    if (c == NULL)
        return;
    free(c->pairs);
    free(c);
}

void sl_channel_reset(struct sl_channel *c, uint32_t episode)
{
    c->step = 0;
    for (uint32_t i = 0; i < c->n * c->n; i++) {
        const struct sl_rng_id id = {.seed = c->seed,
                                     .purpose = SL_RNG_CHANNEL,
                                     .client = i / c->n,
                                     .round = episode,
                                     .step = i % c->n};
        sl_rng_init(&c->pairs[i].rng, &id);
        c->pairs[i].state = 0;
    }
}

void sl_channel_step(struct sl_channel *c)
{
    uint8_t last = (uint8_t)(c->chain->n - 1);
    for (uint32_t i = 0; i < c->n * c->n; i++) {
        struct pair *p = &c->pairs[i];
        double draw = (double)sl_rng_at(&p->rng, c->step) * 0x1p-32;
        uint8_t next = p->state < last ? (uint8_t)(p->state + 1) : last;
        p->state = draw < c->chain->back[p->state] ? 0 : next;
    }
    c->step++;
}

bool sl_channel_delivers(const struct sl_channel *c, uint32_t from, uint32_t to)
{
    return from == to || c->pairs[from * c->n + to].state == 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "server/selection/defence/defence.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they are");

/* One list of fields for both directions: `to` copies out of the struct, otherwise into it. */
struct cursor {
    uint8_t *bytes;
    size_t at;
    bool to;
};

static void field(struct cursor *c, void *value, size_t n)
{
    if (c->to)
        memcpy(c->bytes + c->at, value, n);
    else
        memcpy(value, c->bytes + c->at, n);
    c->at += n;
}

#define FIELD(c, x) field(c, &(x), sizeof(x))

static void client_fields(struct cursor *c, struct sl_defence_client *s)
{
    FIELD(c, s->samples);
    FIELD(c, s->accepted);
    FIELD(c, s->candidacies);
    FIELD(c, s->refused);
    FIELD(c, s->out);
    FIELD(c, s->caught);
    FIELD(c, s->n_finish);
    FIELD(c, s->n_claims);
    FIELD(c, s->finish_s);
    FIELD(c, s->claim);
    FIELD(c, s->sum_claim);
    FIELD(c, s->sum_time);
    FIELD(c, s->sum_team);
    assert(c->at == SL_DEFENCE_CLIENT_BYTES);
}

static void state_fields(struct cursor *c, struct sl_defence_state *s)
{
    FIELD(c, s->off);
    FIELD(c, s->n_off);
    FIELD(c, s->ratio);
    FIELD(c, s->n_ratio);
    FIELD(c, s->off_claim);
    FIELD(c, s->off_time);
    FIELD(c, s->reward);
    FIELD(c, s->off_reward);
    FIELD(c, s->n_rewards);
    assert(c->at == SL_DEFENCE_STATE_BYTES);
}

static bool from_zero(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(x[i] >= 0) || !isfinite(x[i]))
            return false;
    return true;
}

void sl_defence_client_put(const struct sl_defence_client *client,
                           uint8_t ret[SL_DEFENCE_CLIENT_BYTES])
{
    struct sl_defence_client copy = *client;
    client_fields(&(struct cursor){.bytes = ret, .to = true}, &copy);
}

void sl_defence_state_put(const struct sl_defence_state *s, uint8_t ret[SL_DEFENCE_STATE_BYTES])
{
    struct sl_defence_state copy = *s;
    state_fields(&(struct cursor){.bytes = ret, .to = true}, &copy);
}

enum sl_code sl_defence_client_get(const uint8_t bytes[SL_DEFENCE_CLIENT_BYTES],
                                   struct sl_defence_client *ret, struct sl_err *err)
{
    uint8_t copy[SL_DEFENCE_CLIENT_BYTES];
    struct sl_defence_client c;
    memcpy(copy, bytes, sizeof(copy));
    client_fields(&(struct cursor){.bytes = copy}, &c);
    const double sums[] = {c.sum_claim, c.sum_time, c.sum_team};
    if (c.n_finish > SL_FACTS_HISTORY || !from_zero(c.finish_s, SL_FACTS_HISTORY) ||
        !isfinite(c.claim) || !from_zero(sums, 3))
        return sl_err_set(err, SL_E_INPUT, "not the state of a client's defences");
    *ret = c;
    return SL_OK;
}

enum sl_code sl_defence_state_get(const uint8_t bytes[SL_DEFENCE_STATE_BYTES],
                                  struct sl_defence_state *ret, struct sl_err *err)
{
    uint8_t copy[SL_DEFENCE_STATE_BYTES];
    struct sl_defence_state s;
    memcpy(copy, bytes, sizeof(copy));
    state_fields(&(struct cursor){.bytes = copy}, &s);
    const double means[] = {s.off_claim, s.off_time, s.off_reward};
    if (!from_zero(s.off, SL_DEFENCE_RING) || !from_zero(s.ratio, SL_DEFENCE_RING) ||
        !from_zero(means, 3) || !isfinite(s.reward))
        return sl_err_set(err, SL_E_INPUT, "not the state of a run's defences");
    *ret = s;
    return SL_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/tmc_play.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "sim/policy/tmc_loss.h"

/* One game and those who play it. */
struct table {
    struct sl_game *game;
    struct sl_channel *channel;
    struct sl_tmc_gate gates[SL_GAME_AGENTS_MAX];
    struct sl_tmc_inbox inboxes[SL_GAME_AGENTS_MAX];
    uint8_t actions[SL_GAME_AGENTS_MAX];
    uint32_t step;
    bool over;
};

struct hall {
    const struct sl_tmc_net *net;
    const struct sl_tmc_play_options *o;
    struct sl_tmc_trace trace; /* one step of all tables */
    struct table *tables;
    uint32_t n_tables;
    uint32_t played; /* episodes */
    double reward, gap;
    uint64_t acts, flips, invalid, entries, lost, links;
    struct sl_tmc_sent senders;
    struct sl_tmc_received receivers;
};

/* --- a step of one table ---------------------------------------------------------- */

static void broadcast(struct hall *h, struct table *t, uint32_t from, const float *message)
{
    struct sl_tmc_record record;
    uint32_t agents = h->net->shape.n_agents;
    bool sent = sl_tmc_is_sent(sl_tmc_offer(&t->gates[from], t->step, t->step, message, &record));
    for (uint32_t to = 0; to < agents; to++) {
        bool arrives = sl_channel_delivers(t->channel, from, to);
        if (to == from)
            continue;
        h->links++;
        h->lost += !arrives;
        if (sent && arrives)
            sl_tmc_receive(&t->inboxes[to], t->step, from, &record);
    }
}

/* Q_glb of an agent from what its inbox holds, q[n_actions]. */
static void listen(struct hall *h, struct table *t, uint32_t agent, const float *local, float *q)
{
    const struct sl_tmc_shape *s = &h->net->shape;
    float heard[SL_TMC_WIDTH_MAX] = {0};
    struct sl_tmc_inbox *inbox = &t->inboxes[agent];
    sl_tmc_settle(inbox, t->step);
    if (s->listen != SL_TMC_LISTEN_MUTE)
        sl_tmc_combine(inbox, s->listen == SL_TMC_LISTEN_SUM ? SL_TMC_SUM : SL_TMC_MEAN, agent,
                       heard);
    for (uint32_t a = 0; a < s->n_actions; a++)
        q[a] = local[a] + heard[a];
}

static void count_entries(struct hall *h, struct table *t, uint32_t agent)
{
    for (uint32_t k = 0; k < h->net->shape.n_agents; k++)
        if (k != agent) {
            h->entries++;
            h->invalid += !sl_tmc_is_valid(&t->inboxes[agent], k);
        }
}

static void step(struct hall *h, uint32_t number)
{
    struct table *t = &h->tables[number];
    const struct sl_tmc_shape *s = &h->net->shape;
    size_t first = (size_t)number * s->n_agents * s->n_actions;
    sl_channel_step(t->channel);
    for (uint32_t n = 0; n < s->n_agents; n++)
        broadcast(h, t, n, h->trace.m + first + (size_t)n * s->n_actions);
    for (uint32_t n = 0; n < s->n_agents; n++) {
        float q[SL_GAME_ACTIONS_MAX];
        uint8_t top[2];
        size_t at = first + (size_t)n * s->n_actions;
        listen(h, t, n, h->trace.local + at, q);
        count_entries(h, t, n);
        h->gap += sl_tmc_gap(q, s->n_actions, UINT16_MAX, top);
        t->actions[n] = sl_tmc_best(q, s->n_actions);
        h->flips += t->actions[n] != sl_tmc_best(h->trace.global + at, s->n_actions);
        h->acts++;
    }
    h->reward += t->game->ops->step(t->game, t->actions, &t->over);
    t->step++;
}

/* --- episodes --------------------------------------------------------------------- */

static void begin(struct hall *h, struct table *t, uint32_t episode)
{
    t->game->ops->reset(t->game, sl_splitmix64_at(h->o->seed, episode));
    sl_channel_reset(t->channel, episode);
    t->step = 0;
    t->over = episode >= h->o->episodes;
    for (uint32_t n = 0; n < h->net->shape.n_agents; n++) {
        sl_tmc_gate_start(&t->gates[n], &h->o->gate, n, episode);
        sl_tmc_inbox_clear(&t->inboxes[n]);
    }
}

static void add_sent(struct hall *h, const struct sl_tmc_sent *s)
{
    h->senders.sent += s->sent;
    h->senders.suppressed += s->suppressed;
    h->senders.keepalives += s->keepalives;
    h->senders.refused += s->refused;
    h->senders.bytes_saved += s->bytes_saved;
}

static void add_received(struct hall *h, const struct sl_tmc_received *r)
{
    h->receivers.received += r->received;
    h->receivers.duplicates += r->duplicates;
    h->receivers.stale += r->stale;
    h->receivers.misfits += r->misfits;
    h->receivers.expired += r->expired;
    h->receivers.stale_uses += r->stale_uses;
}

static void look(struct hall *h, float *seen)
{
    const struct sl_tmc_shape *s = &h->net->shape;
    for (uint32_t k = 0; k < h->n_tables; k++) {
        const struct table *t = &h->tables[k];
        t->game->ops->observe(t->game, seen);
        for (uint32_t n = 0; n < s->n_agents; n++)
            sl_tmc_fill_row(h->net, seen + (size_t)n * s->n_inputs,
                            t->step == 0 ? -1 : t->actions[n], n,
                            h->trace.x + ((size_t)k * s->n_agents + n) * h->net->width);
    }
}

/* An episode at every table, until all are over. */
static void play(struct hall *h, float *seen)
{
    bool any = true;
    for (uint32_t k = 0; k < h->n_tables; k++)
        begin(h, &h->tables[k], h->played + k);
    sl_tmc_trace_restart(h->net, &h->trace);
    while (any) {
        look(h, seen);
        sl_tmc_net_forward(h->net, &h->trace, 1);
        sl_tmc_trace_continue(h->net, &h->trace, 1);
        any = false;
        for (uint32_t k = 0; k < h->n_tables; k++) {
            if (!h->tables[k].over)
                step(h, k);
            any = any || !h->tables[k].over;
        }
    }
    for (uint32_t k = 0; k < h->n_tables; k++)
        for (uint32_t n = 0; n < h->net->shape.n_agents; n++)
            add_sent(h, &h->tables[k].gates[n].counters);
    h->played += h->n_tables;
}

/* --- the whole -------------------------------------------------------------------- */

static enum sl_code set_up(struct hall *h, struct sl_game *const *games, struct sl_err *err)
{
    uint32_t agents = h->net->shape.n_agents;
    enum sl_code rc = sl_tmc_trace_new(h->net, 1, h->n_tables, 0, &h->trace, err);
    if (rc != SL_OK)
        return rc;
    h->tables = sl_calloc(h->n_tables, sizeof(*h->tables));
    if (h->tables == NULL)
        return sl_err_set(err, SL_E_NOMEM, "team: %" PRIu32 " games", h->n_tables);
    for (uint32_t k = 0; k < h->n_tables && rc == SL_OK; k++) {
        struct table *t = &h->tables[k];
        t->game = games[k];
        rc = sl_channel_new(h->o->channel, agents, h->o->seed, &t->channel, err);
        for (uint32_t n = 0; n < agents && rc == SL_OK; n++)
            rc = sl_tmc_inbox_init(&t->inboxes[n], &h->o->gate, agents, err);
    }
    return rc;
}

static void tear_down(struct hall *h)
{
    for (uint32_t k = 0; h->tables != NULL && k < h->n_tables; k++) {
        sl_channel_free(h->tables[k].channel);
        for (uint32_t n = 0; n < h->net->shape.n_agents; n++)
            sl_tmc_inbox_deinit(&h->tables[k].inboxes[n]);
    }
    free(h->tables);
    sl_tmc_trace_deinit(&h->trace);
}

static void sum_up(struct hall *h, struct sl_tmc_played_sums *ret)
{
    for (uint32_t k = 0; k < h->n_tables; k++)
        for (uint32_t n = 0; n < h->net->shape.n_agents; n++)
            add_received(h, &h->tables[k].inboxes[n].counters);
    *ret = (struct sl_tmc_played_sums){.reward = h->reward / h->o->episodes,
                                       .sent = (double)h->senders.sent / (double)h->acts,
                                       .flips = (double)h->flips / (double)h->acts,
                                       .gap = h->gap / (double)h->acts,
                                       .invalid = (double)h->invalid / (double)h->entries,
                                       .lost = (double)h->lost / (double)h->links,
                                       .senders = h->senders,
                                       .receivers = h->receivers};
}

static enum sl_code check(const struct sl_tmc_net *net, const struct sl_tmc_play_options *o,
                          uint32_t n_games, struct sl_err *err)
{
    if (n_games < 1 || n_games > SL_GAME_AGENTS_MAX || o->episodes < 1)
        return sl_err_set(err, SL_E_RANGE,
                          "team: %" PRIu32 " episodes (at least 1) on %" PRIu32 " games (1 to %u)",
                          o->episodes, n_games, SL_GAME_AGENTS_MAX);
    if (o->gate.width != net->shape.n_actions)
        return sl_err_set(err, SL_E_RANGE, "team: gate of width %" PRIu32 " (%" PRIu32 ", actions)",
                          o->gate.width, net->shape.n_actions);
    return sl_tmc_check(&o->gate, err);
}

enum sl_code sl_tmc_play(const struct sl_tmc_net *net, const struct sl_tmc_play_options *o,
                         struct sl_game *const *games, uint32_t n_games,
                         struct sl_tmc_played_sums *ret, struct sl_err *err)
{
    enum sl_code rc = check(net, o, n_games, err);
    if (rc != SL_OK)
        return rc;
    struct hall h = {.net = net, .o = o, .n_tables = n_games};
    float *seen = sl_calloc(net->shape.n_agents, net->shape.n_inputs * sizeof(*seen));
    rc = seen == NULL ? sl_err_set(err, SL_E_NOMEM, "team: observations") : set_up(&h, games, err);
    if (rc == SL_OK) {
        while (h.played < o->episodes)
            play(&h, seen);
        sum_up(&h, ret);
    }
    tear_down(&h);
    free(seen);
    return rc;
}

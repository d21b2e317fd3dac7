/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tmc.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define TYPE 'M'
#define VERSION 1u
#define FLAG_KEEPALIVE 1u

struct sl_tmc_peer {
    bool known, valid, has_past;
    uint32_t boot, past_boot; /* past_boot: the one before; only with has_past */
    uint32_t sequence, round;
    uint64_t step; /* of the last arrival */
};

/* --- options ---------------------------------------------------------------------- */

struct sl_tmc_options sl_tmc_defaults(uint32_t width)
{
    struct sl_tmc_options o = {
        .width = width, .norm = SL_TMC_SQUARED, .delta = 0.05, .timeout = 6, .window = 12};
    for (size_t i = 0; i < SL_TMC_WIDTH_MAX; i++)
        o.scale[i] = 1;
    return o;
}

enum sl_code sl_tmc_check(const struct sl_tmc_options *o, struct sl_err *err)
{
    if (o->width < 1 || o->width > SL_TMC_WIDTH_MAX)
        return sl_err_set(err, SL_E_RANGE, "gate: width %" PRIu32 " (1 to %u)", o->width,
                          SL_TMC_WIDTH_MAX);
    if (!isfinite(o->delta) || o->delta < 0)
        return sl_err_set(err, SL_E_RANGE, "gate: delta %g (finite, at least 0)", o->delta);
    if (o->timeout < 1 || o->timeout > SL_TMC_STEPS_MAX)
        return sl_err_set(err, SL_E_RANGE, "gate: timeout %" PRIu32 " (1 to %u steps)", o->timeout,
                          SL_TMC_STEPS_MAX);
    if (o->window > SL_TMC_STEPS_MAX)
        return sl_err_set(err, SL_E_RANGE, "gate: window %" PRIu32 " (0 to %u steps)", o->window,
                          SL_TMC_STEPS_MAX);
    for (size_t i = 0; i < o->width; i++)
        if (!isfinite(o->scale[i]) || o->scale[i] <= 0)
            return sl_err_set(err, SL_E_RANGE, "gate: scale %g of feature %zu (finite, above 0)",
                              (double)o->scale[i], i);
    return SL_OK;
}

/* --- records ---------------------------------------------------------------------- */

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static bool are_finite(const float *values, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite &= isfinite(values[i]) != 0;
    return finite;
}

size_t sl_tmc_record_put(const struct sl_tmc_record *r, uint8_t ret[SL_TMC_RECORD_MAX])
{
    ret[0] = TYPE;
    ret[1] = VERSION;
    ret[2] = r->keepalive ? FLAG_KEEPALIVE : 0;
    ret[3] = (uint8_t)r->width;
    put_u32(ret + 4, r->client);
    put_u32(ret + 8, r->boot);
    put_u32(ret + 12, r->sequence);
    put_u32(ret + 16, r->round);
    for (size_t i = 0; i < r->width; i++) {
        uint32_t bits;
        memcpy(&bits, &r->values[i], sizeof(bits));
        put_u32(ret + SL_TMC_HEADER_BYTES + 4 * i, bits);
    }
    return sl_tmc_record_bytes(r->width);
}

static enum sl_code check_header(const uint8_t *bytes, size_t n, struct sl_err *err)
{
    if (n < SL_TMC_HEADER_BYTES)
        return sl_err_set(err, SL_E_PROTO, "gate record: %zu bytes (at least %u)", n,
                          SL_TMC_HEADER_BYTES);
    if (bytes[0] != TYPE || bytes[1] != VERSION)
        return sl_err_set(err, SL_E_PROTO, "gate record: type %u, version %u (%u, %u)", bytes[0],
                          bytes[1], TYPE, VERSION);
    if ((bytes[2] & ~FLAG_KEEPALIVE) != 0)
        return sl_err_set(err, SL_E_PROTO, "gate record: flags %u (0 or %u)", bytes[2],
                          FLAG_KEEPALIVE);
    if (bytes[3] < 1 || bytes[3] > SL_TMC_WIDTH_MAX)
        return sl_err_set(err, SL_E_PROTO, "gate record: width %u (1 to %u)", bytes[3],
                          SL_TMC_WIDTH_MAX);
    if (n != sl_tmc_record_bytes(bytes[3]))
        return sl_err_set(err, SL_E_PROTO, "gate record: %zu bytes (%zu for width %u)", n,
                          sl_tmc_record_bytes(bytes[3]), bytes[3]);
    return SL_OK;
}

enum sl_code sl_tmc_record_get(const uint8_t *bytes, size_t n, struct sl_tmc_record *ret,
                               struct sl_err *err)
{
    enum sl_code rc = check_header(bytes, n, err);
    if (rc != SL_OK)
        return rc;
    struct sl_tmc_record r = {.client = get_u32(bytes + 4),
                              .boot = get_u32(bytes + 8),
                              .sequence = get_u32(bytes + 12),
                              .round = get_u32(bytes + 16),
                              .keepalive = (bytes[2] & FLAG_KEEPALIVE) != 0,
                              .width = bytes[3]};
    for (size_t i = 0; i < r.width; i++) {
        uint32_t bits = get_u32(bytes + SL_TMC_HEADER_BYTES + 4 * i);
        memcpy(&r.values[i], &bits, sizeof(bits));
    }
    if (!are_finite(r.values, r.width))
        return sl_err_set(err, SL_E_PROTO, "gate record: a value is not finite");
    *ret = r;
    return SL_OK;
}

/* --- sender ----------------------------------------------------------------------- */

void sl_tmc_gate_start(struct sl_tmc_gate *g, const struct sl_tmc_options *options, uint32_t client,
                       uint32_t boot)
{
    *g = (struct sl_tmc_gate){.options = *options, .client = client, .boot = boot};
}

static double squared_distance(const struct sl_tmc_options *o, const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < o->width; i++) {
        double d = ((double)a[i] - (double)b[i]) * (double)o->scale[i];
        sum += d * d;
    }
    return sum;
}

double sl_tmc_distance(const struct sl_tmc_options *o, const float *a, const float *b)
{
    double squared = squared_distance(o, a, b);
    return o->norm == SL_TMC_SQUARED ? squared : sqrt(squared);
}

static enum sl_tmc_verdict judge(const struct sl_tmc_gate *g, uint64_t step, const float *values)
{
    if (!are_finite(values, g->options.width))
        return SL_TMC_REFUSED;
    if (!g->has_sent)
        return SL_TMC_FIRST;
    if (sl_tmc_distance(&g->options, values, g->last) > g->options.delta)
        return SL_TMC_CHANGED;
    return step >= g->sent_step && step - g->sent_step >= g->options.timeout ? SL_TMC_KEEPALIVE
                                                                             : SL_TMC_SILENT;
}

enum sl_tmc_verdict sl_tmc_offer(struct sl_tmc_gate *g, uint64_t step, uint32_t round,
                                 const float *values, struct sl_tmc_record *ret)
{
    uint32_t width = g->options.width;
    enum sl_tmc_verdict v = judge(g, step, values);
    g->counters.refused += v == SL_TMC_REFUSED;
    if (v == SL_TMC_SILENT) {
        g->counters.suppressed++;
        g->counters.bytes_saved += sl_tmc_record_bytes(width);
    }
    if (!sl_tmc_is_sent(v))
        return v;
    ret->client = g->client;
    ret->boot = g->boot;
    ret->sequence = g->sequence++;
    ret->round = round;
    ret->keepalive = v == SL_TMC_KEEPALIVE;
    ret->width = width;
    memcpy(ret->values, values, width * sizeof(*values));
    memcpy(g->last, values, width * sizeof(*values));
    g->has_sent = true;
    g->sent_step = step;
    g->counters.sent++;
    g->counters.keepalives += v == SL_TMC_KEEPALIVE;
    return v;
}

/* --- receiver --------------------------------------------------------------------- */

enum sl_code sl_tmc_inbox_init(struct sl_tmc_inbox *b, const struct sl_tmc_options *options,
                               uint32_t n_peers, struct sl_err *err)
{
    *b = (struct sl_tmc_inbox){.options = *options, .n_peers = n_peers};
    if (n_peers < 1 || n_peers > SL_TMC_PEERS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "gate: inbox of %" PRIu32 " peers (1 to %u)", n_peers,
                          SL_TMC_PEERS_MAX);
    b->peers = sl_calloc(n_peers, sizeof(*b->peers));
    b->values = sl_calloc(n_peers, options->width * sizeof(*b->values));
    if (b->peers == NULL || b->values == NULL) {
        sl_tmc_inbox_deinit(b);
        return sl_err_set(err, SL_E_NOMEM, "gate: inbox of %" PRIu32 " peers", n_peers);
    }
    return SL_OK;
}

void sl_tmc_inbox_deinit(struct sl_tmc_inbox *b)
{
    if (b == NULL)
        return;
    free(b->peers);
    free(b->values);
    *b = (struct sl_tmc_inbox){0};
}

void sl_tmc_inbox_clear(struct sl_tmc_inbox *b)
{
    memset(b->peers, 0, b->n_peers * sizeof(*b->peers));
    memset(b->values, 0, (size_t)b->n_peers * b->options.width * sizeof(*b->values));
    b->step = 0;
}

enum order { OLDER, SAME, NEWER };

static enum order order_of(const struct sl_tmc_peer *p, const struct sl_tmc_record *r)
{
    if (!p->known)
        return NEWER;
    if (r->boot != p->boot)
        return p->has_past && r->boot == p->past_boot ? OLDER : NEWER;
    if (r->sequence == p->sequence)
        return SAME;
    return r->sequence - p->sequence < UINT32_C(1) << 31 ? NEWER : OLDER;
}

static void store(struct sl_tmc_peer *p, const struct sl_tmc_record *r)
{
    if (p->known && r->boot != p->boot) {
        p->has_past = true;
        p->past_boot = p->boot;
    }
    p->known = true;
    p->boot = r->boot;
    p->sequence = r->sequence;
    p->round = r->round;
}

bool sl_tmc_receive(struct sl_tmc_inbox *b, uint64_t step, uint32_t peer,
                    const struct sl_tmc_record *r)
{
    uint32_t width = b->options.width;
    if (peer >= b->n_peers || r->width != width) {
        b->counters.misfits++;
        return false;
    }
    struct sl_tmc_peer *p = &b->peers[peer];
    enum order order = order_of(p, r);
    if (order == OLDER) {
        b->counters.stale++;
        return false;
    }
    if (order == NEWER) {
        store(p, r);
        memcpy(b->values + (size_t)peer * width, r->values, width * sizeof(*r->values));
    }
    b->counters.received += order == NEWER;
    b->counters.duplicates += order == SAME;
    b->step = step > b->step ? step : b->step;
    p->step = b->step;
    p->valid = true;
    return true;
}

void sl_tmc_settle(struct sl_tmc_inbox *b, uint64_t step)
{
    b->step = step > b->step ? step : b->step;
    for (size_t i = 0; i < b->n_peers; i++) {
        struct sl_tmc_peer *p = &b->peers[i];
        if (p->valid && b->step - p->step > b->options.window) {
            p->valid = false;
            b->counters.expired++;
        }
    }
}

struct sl_tmc_view sl_tmc_look(struct sl_tmc_inbox *b, uint32_t peer)
{
    const struct sl_tmc_peer *p = &b->peers[peer];
    uint64_t age = p->known ? b->step - p->step : 0;
    b->counters.stale_uses += p->valid && age > 0;
    return (struct sl_tmc_view){.known = p->known,
                                .valid = p->valid,
                                .age = age,
                                .round = p->round,
                                .values = b->values + (size_t)peer * b->options.width};
}

bool sl_tmc_is_valid(const struct sl_tmc_inbox *b, uint32_t peer)
{
    return b->peers[peer].valid;
}

void sl_tmc_combine(struct sl_tmc_inbox *b, enum sl_tmc_combine how, uint32_t except, float *ret)
{
    uint32_t width = b->options.width;
    memset(ret, 0, width * sizeof(*ret));
    for (uint32_t i = 0; i < b->n_peers; i++) {
        const struct sl_tmc_peer *p = &b->peers[i];
        const float *values = b->values + (size_t)i * width;
        if (i == except || !p->valid)
            continue;
        b->counters.stale_uses += p->step < b->step;
        for (size_t k = 0; k < width; k++)
            ret[k] += values[k];
    }
    if (how == SL_TMC_MEAN && b->n_peers > 1)
        for (size_t k = 0; k < width; k++)
            ret[k] /= (float)(b->n_peers - 1);
}

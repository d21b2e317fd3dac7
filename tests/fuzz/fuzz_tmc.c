/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a gate record: what parses packs to the same bytes and goes into an inbox. Then its bits
 * direct a sender and a lossy way to the inbox: what is valid there is what was sent last and came through. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/tmc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 24u

static bool bit(uint32_t bits, uint32_t step)
{
    return bits >> (step % 32) & 1;
}

/* sequence: where the vector moves, boot: what is lost, client: what comes twice. */
static void converse(const struct sl_tmc_record *by)
{
    struct sl_tmc_options o = sl_tmc_defaults(by->width);
    o.norm = by->keepalive ? SL_TMC_PLAIN : SL_TMC_SQUARED;
    o.timeout = 1 + by->round % 8;
    o.window = by->round / 8 % 8;
    struct sl_tmc_gate g;
    struct sl_tmc_inbox b;
    struct sl_tmc_record r, first = *by, arrived = *by;
    float v[SL_TMC_WIDTH_MAX], sum[SL_TMC_WIDTH_MAX];
    memcpy(v, by->values, sizeof(v));
    if (sl_tmc_inbox_init(&b, &o, 3, NULL) != SL_OK)
        abort();
    sl_tmc_gate_start(&g, &o, 1, by->boot);
    bool any = false;
    uint64_t since = 0;
    for (uint32_t step = 0; step < STEPS; step++, since++) {
        v[0] = bit(by->sequence, step) ? v[0] * -1.5f + 1 : v[0];
        enum sl_tmc_verdict verdict = sl_tmc_offer(&g, step, step, v, &r);
        if (sl_tmc_is_sent(verdict) && !bit(by->boot, step)) {
            assert(sl_tmc_receive(&b, step, 1, &r));
            first = any ? first : r;
            arrived = r;
            any = true;
            since = 0;
        }
        /* the same again renews its age, an older one changes nothing */
        if (any && bit(by->client, step) &&
            sl_tmc_receive(&b, step, 1, bit(by->client, step + 1) ? &first : &arrived))
            since = 0;
        sl_tmc_receive(&b, step, 2, by);
        sl_tmc_receive(&b, step, 3, by); /* no such peer */
        sl_tmc_settle(&b, step);
        struct sl_tmc_view now = sl_tmc_look(&b, 1);
        assert(now.known == any && (!any || memcmp(now.values, arrived.values, 4 * (size_t)o.width) == 0));
        assert(!any || since > o.window || sl_tmc_is_valid(&b, 1));
        sl_tmc_combine(&b, bit(by->client, step) ? SL_TMC_SUM : SL_TMC_MEAN, step % 4, sum);
    }
    const struct sl_tmc_sent *c = &g.counters;
    assert(c->sent + c->suppressed + c->refused == STEPS && c->keepalives <= c->sent);
    sl_tmc_inbox_clear(&b);
    assert(!sl_tmc_look(&b, 1).known);
    sl_tmc_inbox_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_tmc_record r;
    uint8_t again[SL_TMC_RECORD_MAX];
    if (sl_tmc_record_get(data, size, &r, NULL) != SL_OK)
        return 0;
    assert(sl_tmc_record_put(&r, again) == size);
    assert(memcmp(again, data, size) == 0);
    struct sl_tmc_options o = sl_tmc_defaults(r.width);
    struct sl_tmc_inbox b;
    if (sl_tmc_inbox_init(&b, &o, 2, NULL) != SL_OK)
        abort();
    assert(sl_tmc_receive(&b, r.round, 1, &r));
    sl_tmc_settle(&b, r.round);
    struct sl_tmc_view v = sl_tmc_look(&b, 1);
    assert(v.valid && v.age == 0 && memcmp(v.values, r.values, 4 * (size_t)r.width) == 0);
    sl_tmc_inbox_deinit(&b);
    converse(&r);
    return 0;
}

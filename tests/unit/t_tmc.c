/* SPDX-License-Identifier: Apache-2.0 */
/* The gate of messages: when a vector is sent, what a receiver makes of losses, and the record. T1 to
 * T5, T10 and T11 of the protocol's list of properties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"
#include "common/tmc.h"

#define WALKS 200
#define STEPS 400

static struct sl_rng rng_of(uint32_t number)
{
    struct sl_rng rng;
    const struct sl_rng_id id = {.seed = 5, .purpose = SL_RNG_TEST, .round = number};
    sl_rng_init(&rng, &id);
    return rng;
}

/* A walk whose steps are sometimes far below delta and sometimes far above. */
static void walk(struct sl_rng *rng, float *v, uint32_t width)
{
    double sd = sl_rng_f64(rng) < 0.1 ? 0.3 : 0.01;
    for (uint32_t k = 0; k < width; k++)
        v[k] += (float)(sd * sl_rng_normal(rng));
}

/* Options of walk `i`: all widths, both norms, scales, timeouts. */
static struct sl_tmc_options options_of(struct sl_rng *rng, uint32_t i)
{
    struct sl_tmc_options o = sl_tmc_defaults(1 + i % SL_TMC_WIDTH_MAX);
    o.norm = i % 2 == 0 ? SL_TMC_SQUARED : SL_TMC_PLAIN;
    o.delta = i % 2 == 0 ? 0.05 : 0.224;
    o.timeout = 1 + i % 9;
    for (uint32_t k = 0; k < o.width; k++)
        o.scale[k] = (float)(0.5 + sl_rng_f64(rng));
    assert_int_equal(sl_tmc_check(&o, NULL), SL_OK);
    return o;
}

static struct sl_tmc_inbox inbox_of(const struct sl_tmc_options *o, uint32_t peers)
{
    struct sl_tmc_inbox b;
    struct sl_err err;
    if (sl_tmc_inbox_init(&b, o, peers, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return b;
}

/* --- sender ----------------------------------------------------------------------- */

static void nothing_is_sent_within_delta_before_the_timeout(void **state)
{
    uint64_t silent = 0, loud = 0;
    for (uint32_t i = 0; i < WALKS; i++) {
        struct sl_rng rng = rng_of(i);
        struct sl_tmc_options o = options_of(&rng, i);
        struct sl_tmc_gate g;
        struct sl_tmc_record r;
        float v[SL_TMC_WIDTH_MAX] = {0}, last[SL_TMC_WIDTH_MAX] = {0};
        uint64_t quiet = 0;
        sl_tmc_gate_start(&g, &o, 3, 7);
        for (uint32_t t = 0; t < STEPS; t++) {
            walk(&rng, v, o.width);
            double far = sl_tmc_distance(&o, v, last);
            bool must = t == 0 || far > o.delta || ++quiet >= o.timeout;
            bool sent = sl_tmc_is_sent(sl_tmc_offer(&g, t, t, v, &r));
            assert_int_equal(sent, must);
            if (sent) {
                memcpy(last, v, sizeof(last));
                quiet = 0;
            }
            silent += !sent;
            loud += sent;
        }
        assert_int_equal(g.counters.sent + g.counters.suppressed, STEPS);
        assert_int_equal(g.counters.bytes_saved,
                         g.counters.suppressed * (20 + 4 * (uint64_t)o.width));
    }
    assert_true(silent > 10000 && loud > 10000);
}

static void a_constant_vector_is_sent_every_sixth_step(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(3);
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    const float v[3] = {1, 2, 3};
    sl_tmc_gate_start(&g, &o, 0, 1);
    for (uint32_t t = 0; t < 600; t++) {
        enum sl_tmc_verdict want = t == 0       ? SL_TMC_FIRST
                                   : t % 6 == 0 ? SL_TMC_KEEPALIVE
                                                : SL_TMC_SILENT;
        assert_int_equal(sl_tmc_offer(&g, t, 40 + t, v, &r), want);
        if (want == SL_TMC_SILENT)
            continue;
        assert_int_equal(r.sequence, t / 6);
        assert_int_equal(r.round, 40 + t);
        assert_int_equal(r.keepalive, t > 0);
    }
    assert_int_equal(g.counters.sent, 100);
    assert_int_equal(g.counters.keepalives, 99);
    assert_int_equal(g.counters.suppressed, 500);
}

static void white_noise_above_delta_is_sent_every_step(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(10);
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    struct sl_rng rng = rng_of(1000);
    sl_tmc_gate_start(&g, &o, 0, 1);
    for (uint32_t t = 0; t < 10000; t++) {
        float v[10];
        for (int k = 0; k < 10; k++)
            v[k] = (float)sl_rng_normal(&rng);
        sl_tmc_offer(&g, t, t, v, &r);
    }
    assert_int_equal(g.counters.sent, 10000);
}

static void steps_that_nobody_offered_count_as_silent(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(1);
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    const float v = 1;
    sl_tmc_gate_start(&g, &o, 0, 1);
    assert_int_equal(sl_tmc_offer(&g, 100, 0, &v, &r), SL_TMC_FIRST);
    assert_int_equal(sl_tmc_offer(&g, 105, 0, &v, &r), SL_TMC_SILENT);
    assert_int_equal(sl_tmc_offer(&g, 113, 0, &v, &r), SL_TMC_KEEPALIVE);
    assert_int_equal(sl_tmc_offer(&g, 90, 0, &v, &r), SL_TMC_SILENT); /* time never goes back */
}

static void delta_is_a_bound_that_is_not_sent_at(void **state)
{
    const float zero[2] = {0, 0}, at[2] = {3, 4}, beyond[2] = {3, 4.001f};
    for (int plain = 0; plain < 2; plain++) {
        struct sl_tmc_options o = sl_tmc_defaults(2);
        struct sl_tmc_gate g;
        struct sl_tmc_record r;
        o.norm = plain ? SL_TMC_PLAIN : SL_TMC_SQUARED;
        o.delta = plain ? 5 : 25;
        sl_tmc_gate_start(&g, &o, 0, 1);
        assert_int_equal(sl_tmc_offer(&g, 0, 0, zero, &r), SL_TMC_FIRST);
        assert_int_equal(sl_tmc_offer(&g, 1, 0, at, &r), SL_TMC_SILENT);
        assert_int_equal(sl_tmc_offer(&g, 2, 0, beyond, &r), SL_TMC_CHANGED);
    }
}

static void a_scale_makes_one_delta_of_many_units(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(2);
    const float a[2] = {0, 0}, bytes[2] = {1000, 0}, seconds[2] = {1000, 1};
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    o.scale[0] = 1e-6f;
    sl_tmc_gate_start(&g, &o, 0, 1);
    sl_tmc_offer(&g, 0, 0, a, &r);
    assert_int_equal(sl_tmc_offer(&g, 1, 0, bytes, &r), SL_TMC_SILENT);
    assert_int_equal(sl_tmc_offer(&g, 2, 0, seconds, &r), SL_TMC_CHANGED);
    assert_float_equal(r.values[0], 1000, 0); /* the record has the value itself */
}

static void the_first_vector_after_a_start_is_always_sent(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(4);
    const float zeros[4] = {0};
    for (uint32_t boot = 1; boot <= 3; boot++) {
        struct sl_tmc_gate g;
        struct sl_tmc_record r;
        sl_tmc_gate_start(&g, &o, 9, boot);
        assert_int_equal(sl_tmc_offer(&g, 1000 + boot, 0, zeros, &r), SL_TMC_FIRST);
        assert_int_equal(r.client, 9);
        assert_int_equal(r.boot, boot);
        assert_int_equal(r.sequence, 0);
    }
}

static void a_value_that_is_not_finite_is_never_sent(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(2);
    const float good[2] = {1, 1}, bad[][2] = {{NAN, 1}, {1, INFINITY}, {-INFINITY, 1}};
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    sl_tmc_gate_start(&g, &o, 0, 1);
    assert_int_equal(sl_tmc_offer(&g, 0, 0, bad[0], &r), SL_TMC_REFUSED);
    assert_int_equal(sl_tmc_offer(&g, 1, 0, good, &r), SL_TMC_FIRST);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(sl_tmc_offer(&g, 50 + i, 0, bad[i], &r), SL_TMC_REFUSED);
    assert_int_equal(sl_tmc_offer(&g, 53, 0, good, &r), SL_TMC_KEEPALIVE);
    assert_int_equal(g.counters.refused, 4);
    assert_int_equal(g.counters.suppressed, 0);
}

/* --- receiver --------------------------------------------------------------------- */

static struct sl_tmc_record record_of(uint32_t boot, uint32_t sequence, float value)
{
    return (struct sl_tmc_record){
        .boot = boot, .sequence = sequence, .round = sequence, .width = 1, .values = {value}};
}

static void without_loss_the_vector_in_force_is_within_delta(void **state)
{
    for (uint32_t i = 0; i < WALKS; i++) {
        struct sl_rng rng = rng_of(2000 + i);
        struct sl_tmc_options o = options_of(&rng, i);
        struct sl_tmc_gate g;
        struct sl_tmc_record r;
        float v[SL_TMC_WIDTH_MAX] = {0};
        struct sl_tmc_inbox b = inbox_of(&o, 2);
        sl_tmc_gate_start(&g, &o, 1, 7);
        for (uint32_t t = 0; t < STEPS; t++) {
            walk(&rng, v, o.width);
            if (sl_tmc_is_sent(sl_tmc_offer(&g, t, t, v, &r)))
                assert_true(sl_tmc_receive(&b, t, 1, &r));
            sl_tmc_settle(&b, t);
            struct sl_tmc_view view = sl_tmc_look(&b, 1);
            assert_true(view.valid && view.age < o.timeout);
            assert_true(sl_tmc_distance(&o, view.values, v) <= o.delta);
        }
        assert_int_equal(b.counters.received, g.counters.sent);
        assert_int_equal(b.counters.stale_uses, STEPS - g.counters.sent);
        sl_tmc_inbox_deinit(&b);
    }
}

static void a_vector_holds_for_the_window_and_then_counts_for_nothing(void **state)
{
    for (uint32_t window = 0; window <= 13; window++) {
        struct sl_tmc_options o = sl_tmc_defaults(1);
        o.window = window;
        struct sl_tmc_inbox b = inbox_of(&o, 3);
        struct sl_tmc_record r = record_of(1, 0, 5);
        float sum;
        sl_tmc_receive(&b, 100, 2, &r);
        for (uint32_t k = 0; k <= 40; k++) {
            sl_tmc_settle(&b, 100 + k);
            struct sl_tmc_view v = sl_tmc_look(&b, 2);
            assert_true(v.known);
            assert_int_equal(v.valid, k <= window);
            assert_int_equal(v.age, k);
            sl_tmc_combine(&b, SL_TMC_SUM, 0, &sum);
            assert_true(sum == (k <= window ? 5.0f : 0.0f) && !signbit(sum));
        }
        assert_int_equal(b.counters.expired, 1);
        assert_int_equal(b.counters.stale_uses, 2 * window);
        sl_tmc_inbox_deinit(&b);
    }
}

/* A constant vector, keep-alives at 0, 6, 12, ...; the one at 6 is lost. Steps without a valid entry. */
static uint32_t gap_after_one_loss(uint32_t window)
{
    struct sl_tmc_options o = sl_tmc_defaults(1);
    o.window = window;
    struct sl_tmc_inbox b = inbox_of(&o, 1);
    struct sl_tmc_gate g;
    struct sl_tmc_record r;
    const float v = 1;
    uint32_t invalid = 0;
    sl_tmc_gate_start(&g, &o, 0, 1);
    for (uint32_t t = 0; t < 18; t++) {
        if (sl_tmc_is_sent(sl_tmc_offer(&g, t, 0, &v, &r)) && t != 6)
            sl_tmc_receive(&b, t, 0, &r);
        sl_tmc_settle(&b, t);
        invalid += !sl_tmc_is_valid(&b, 0);
    }
    assert_int_equal(b.counters.expired, invalid > 0);
    sl_tmc_inbox_deinit(&b);
    return invalid;
}

static void twice_the_timeout_less_one_bridges_a_lost_keepalive(void **state)
{
    assert_int_equal(gap_after_one_loss(6), 5);
    for (uint32_t window = 6; window <= 14; window++)
        assert_int_equal(gap_after_one_loss(window), window >= 11 ? 0 : 11 - window);
}

static void an_older_record_is_dropped_and_a_duplicate_renews_the_age_only(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(1);
    struct sl_tmc_inbox b = inbox_of(&o, 1);
    struct sl_tmc_record five = record_of(1, 5, 50), four = record_of(1, 4, 40),
                         forged = record_of(1, 5, 99);
    assert_true(sl_tmc_receive(&b, 10, 0, &five));
    assert_false(sl_tmc_receive(&b, 11, 0, &four));
    sl_tmc_settle(&b, 13);
    struct sl_tmc_view v = sl_tmc_look(&b, 0);
    assert_true(v.age == 3 && v.values[0] == 50.0f);
    assert_true(sl_tmc_receive(&b, 14, 0, &forged));
    v = sl_tmc_look(&b, 0);
    assert_true(v.age == 0 && v.values[0] == 50.0f && v.round == 5);
    assert_int_equal(b.counters.received, 1);
    assert_int_equal(b.counters.duplicates, 1);
    assert_int_equal(b.counters.stale, 1);
    sl_tmc_inbox_deinit(&b);
}

static void sequence_numbers_are_compared_on_the_circle(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(1);
    struct sl_tmc_inbox b = inbox_of(&o, 1);
    struct sl_tmc_record last = record_of(1, UINT32_MAX, 1), next = record_of(1, 0, 2);
    assert_true(sl_tmc_receive(&b, 0, 0, &last));
    assert_true(sl_tmc_receive(&b, 1, 0, &next));
    assert_false(sl_tmc_receive(&b, 2, 0, &last));
    assert_true(sl_tmc_look(&b, 0).values[0] == 2.0f);
    sl_tmc_inbox_deinit(&b);
}

static void another_boot_takes_over_and_the_one_before_stays_out(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(1);
    struct sl_tmc_inbox b = inbox_of(&o, 1);
    struct sl_tmc_record old = record_of(77, 1000, 1), fresh = record_of(12, 0, 2),
                         late = record_of(77, 1001, 3), third = record_of(0, 0, 4);
    assert_true(sl_tmc_receive(&b, 0, 0, &old));
    assert_true(sl_tmc_receive(&b, 1, 0, &fresh));
    assert_true(sl_tmc_look(&b, 0).values[0] == 2.0f);
    assert_false(sl_tmc_receive(&b, 2, 0, &late));
    assert_true(sl_tmc_look(&b, 0).values[0] == 2.0f);
    assert_true(sl_tmc_receive(&b, 3, 0, &third));
    assert_false(sl_tmc_receive(&b, 4, 0, &fresh));
    assert_int_equal(b.counters.stale, 2);
    sl_tmc_inbox_deinit(&b);
}

static void what_fits_no_row_changes_nothing(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(2);
    struct sl_tmc_inbox b = inbox_of(&o, 2);
    struct sl_tmc_record narrow = record_of(1, 0, 1),
                         good = {.boot = 1, .width = 2, .values = {1, 2}};
    assert_false(sl_tmc_receive(&b, 5, 0, &narrow));
    assert_false(sl_tmc_receive(&b, 5, 2, &good));
    struct sl_tmc_view v = sl_tmc_look(&b, 0);
    assert_true(!v.known && !v.valid && v.age == 0 && v.values[0] == 0.0f);
    assert_int_equal(b.counters.misfits, 2);
    sl_tmc_inbox_deinit(&b);
}

static void arrival_order_changes_no_bit_of_the_sum(void **state)
{
    enum { PEERS = 12, WIDTH = 3 };
    struct sl_tmc_options o = sl_tmc_defaults(WIDTH);
    struct sl_tmc_record records[PEERS];
    float first[WIDTH], again[WIDTH], expect[WIDTH] = {0};
    uint32_t order[PEERS];
    struct sl_rng rng = rng_of(3000);
    for (uint32_t i = 0; i < PEERS; i++) {
        records[i] = (struct sl_tmc_record){.boot = 1, .width = WIDTH};
        order[i] = i;
        for (int k = 0; k < WIDTH; k++) {
            records[i].values[k] = (float)(sl_rng_normal(&rng) * (k == 0 ? 1e6 : 1));
            expect[k] += i == 4 ? 0 : records[i].values[k];
        }
    }
    for (int turn = 0; turn < 50; turn++) {
        struct sl_tmc_inbox b = inbox_of(&o, PEERS);
        for (uint32_t i = 0; i < PEERS; i++)
            sl_tmc_receive(&b, 1, order[i], &records[order[i]]);
        sl_tmc_combine(&b, SL_TMC_MEAN, 4, turn == 0 ? first : again);
        sl_tmc_inbox_deinit(&b);
        if (turn > 0)
            assert_memory_equal(first, again, sizeof(first));
        sl_rng_shuffle_u32(&rng, order, PEERS);
    }
    for (int k = 0; k < WIDTH; k++)
        assert_true(first[k] == expect[k] / (PEERS - 1));
}

static void the_mean_keeps_its_divisor_when_entries_expire(void **state)
{
    struct sl_tmc_options o = sl_tmc_defaults(1);
    struct sl_tmc_inbox b = inbox_of(&o, 5);
    float mean;
    for (uint32_t i = 0; i < 4; i++) {
        struct sl_tmc_record r = record_of(1, 0, 8);
        sl_tmc_receive(&b, i < 2 ? 0 : 10, i, &r);
    }
    sl_tmc_settle(&b, 13);
    sl_tmc_combine(&b, SL_TMC_MEAN, 4, &mean);
    assert_true(mean == 4.0f);
    sl_tmc_inbox_clear(&b);
    sl_tmc_combine(&b, SL_TMC_MEAN, 4, &mean);
    assert_true(mean == 0.0f);
    assert_int_equal(b.counters.received, 4);
    sl_tmc_inbox_deinit(&b);
}

/* --- options and records ---------------------------------------------------------- */

static void options_out_of_range_are_refused_with_their_names(void **state)
{
    struct sl_tmc_options bad[7];
    static const char *const words[] = {"width 0", "width 33", "delta", "delta",
                                        "timeout 0", "window", "scale 0 of feature 1"};
    struct sl_err err;
    for (int i = 0; i < 7; i++)
        bad[i] = sl_tmc_defaults(2);
    bad[0].width = 0;
    bad[1].width = 33;
    bad[2].delta = -1;
    bad[3].delta = NAN;
    bad[4].timeout = 0;
    bad[5].window = UINT32_MAX;
    bad[6].scale[1] = 0;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(sl_tmc_check(&bad[i], &err), SL_E_RANGE);
        assert_non_null(strstr(err.msg, words[i]));
    }
    struct sl_tmc_inbox b;
    struct sl_tmc_options good = sl_tmc_defaults(2);
    assert_int_equal(sl_tmc_inbox_init(&b, &good, 0, &err), SL_E_LIMIT);
    assert_int_equal(sl_tmc_inbox_init(&b, &good, SL_TMC_PEERS_MAX + 1, &err), SL_E_LIMIT);
}

static void a_record_is_these_bytes(void **state)
{
    static const uint8_t bytes[28] = {'M', 1, 1, 2, 4, 3, 2, 1, 0xdd, 0xcc, 0xbb, 0xaa,
                                      7,   0, 0, 0, 9, 1, 0, 0, 0,    0,    0x80, 0x3f,
                                      0,   0, 0, 0xc0};
    const struct sl_tmc_record r = {.client = 0x01020304,
                                    .boot = 0xaabbccdd,
                                    .sequence = 7,
                                    .round = 265,
                                    .keepalive = true,
                                    .width = 2,
                                    .values = {1, -2}};
    uint8_t put[SL_TMC_RECORD_MAX];
    struct sl_tmc_record got;
    assert_int_equal(sl_tmc_record_put(&r, put), sizeof(bytes));
    assert_memory_equal(put, bytes, sizeof(bytes));
    assert_int_equal(sl_tmc_record_get(bytes, sizeof(bytes), &got, NULL), SL_OK);
    assert_int_equal(got.client, r.client);
    assert_int_equal(got.boot, r.boot);
    assert_int_equal(got.sequence, r.sequence);
    assert_int_equal(got.round, r.round);
    assert_int_equal(got.keepalive, 1);
    assert_int_equal(got.width, 2);
    assert_true(got.values[0] == 1.0f && got.values[1] == -2.0f);
}

static void a_damaged_record_is_refused_and_touches_nothing(void **state)
{
    const struct sl_tmc_record r = {.width = 3, .values = {1, 2, 3}};
    uint8_t good[SL_TMC_RECORD_MAX], bad[SL_TMC_RECORD_MAX + 1] = {0};
    size_t n = sl_tmc_record_put(&r, good);
    static const struct {
        size_t at;
        uint8_t value;
        const char *says;
    } cases[] = {{0, 'X', "type 88"},   {1, 2, "version 2"}, {2, 2, "flags 2"},
                 {3, 0, "width 0"},     {3, 33, "width 33"}, {3, 2, "28 for width 2"},
                 {23, 0x7f, "finite"}};
    struct sl_tmc_record got = {.client = 123};
    struct sl_err err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(bad, good, n);
        bad[cases[i].at] = cases[i].value;
        if (cases[i].at == 23)
            bad[22] = 0xc0; /* 0x7fc00000: a NaN */
        assert_int_equal(sl_tmc_record_get(bad, n, &got, &err), SL_E_PROTO);
        assert_non_null(strstr(err.msg, cases[i].says));
    }
    for (size_t cut = 0; cut <= n + 1; cut++)
        if (cut != n) {
            memcpy(bad, good, n);
            assert_int_equal(sl_tmc_record_get(bad, cut, &got, &err), SL_E_PROTO);
        }
    assert_int_equal(got.client, 123);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_sent_within_delta_before_the_timeout),
        cmocka_unit_test(a_constant_vector_is_sent_every_sixth_step),
        cmocka_unit_test(white_noise_above_delta_is_sent_every_step),
        cmocka_unit_test(steps_that_nobody_offered_count_as_silent),
        cmocka_unit_test(delta_is_a_bound_that_is_not_sent_at),
        cmocka_unit_test(a_scale_makes_one_delta_of_many_units),
        cmocka_unit_test(the_first_vector_after_a_start_is_always_sent),
        cmocka_unit_test(a_value_that_is_not_finite_is_never_sent),
        cmocka_unit_test(without_loss_the_vector_in_force_is_within_delta),
        cmocka_unit_test(a_vector_holds_for_the_window_and_then_counts_for_nothing),
        cmocka_unit_test(twice_the_timeout_less_one_bridges_a_lost_keepalive),
        cmocka_unit_test(an_older_record_is_dropped_and_a_duplicate_renews_the_age_only),
        cmocka_unit_test(sequence_numbers_are_compared_on_the_circle),
        cmocka_unit_test(another_boot_takes_over_and_the_one_before_stays_out),
        cmocka_unit_test(what_fits_no_row_changes_nothing),
        cmocka_unit_test(arrival_order_changes_no_bit_of_the_sum),
        cmocka_unit_test(the_mean_keeps_its_divisor_when_entries_expire),
        cmocka_unit_test(options_out_of_range_are_refused_with_their_names),
        cmocka_unit_test(a_record_is_these_bytes),
        cmocka_unit_test(a_damaged_record_is_refused_and_touches_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Channels against their own chains, and the gate over them on a slow AR(1) message (rho .999, step
 * sigma .02, width 10, delta .05 squared, timeout 6): T6 and T7 of the protocol's list of properties,
 * whose figures come from 100,000 steps. t_tmc_reference runs 24 pairs x 2,000 steps, t_tmc_reference
 * long 100,000 steps of each of 8 pairs, with narrower bounds. A relative error is the mean squared
 * distance between the message in force and the true one, by the mean square of the true one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"
#include "common/tmc.h"
#include "sim/channel.h"

#define WIDTH 10
#define PAIRS_MAX 24

static bool is_long;

static uint32_t pairs(void)
{
    return is_long ? 8 : PAIRS_MAX;
}

static uint32_t steps(void)
{
    return is_long ? 100000 : 2000;
}

static void check(int rc, const struct sl_err *err)
{
    if (rc != SL_OK)
        fail_msg("%s", err->msg);
}

/* Fails with the figures. wide: the bound of the short form. */
static void expect_near(const char *what, double got, double want, double narrow, double wide)
{
    double bound = is_long ? narrow : wide;
    if (!(fabs(got - want) <= bound))
        fail_msg("%s: %.5f, expected %.5f +- %.5f", what, got, want, bound);
}

/* --- channels --------------------------------------------------------------------- */

static void chains_lose_what_their_tables_say(void **state)
{
    static const double loss[] = {0, .0115, .0842, .120}, burst[] = {0, 1.165, 1.53, 1.37};
    for (unsigned level = 0; level < SL_CHANNEL_LEVELS; level++) {
        double l, b;
        sl_channel_expect((enum sl_channel_level)level, &l, &b);
        assert_true(fabs(l - loss[level]) < .0005);
        assert_true(fabs(b - burst[level]) < .005);
    }
    assert_string_equal(sl_channel_name(SL_CHANNEL_HEAVY), "heavy");
    assert_null(sl_channel_name((enum sl_channel_level)SL_CHANNEL_LEVELS));
}

/* Share lost and mean run of losses over all ordered pairs of n parties. */
static void measure(enum sl_channel_level level, uint32_t n, uint32_t n_steps, double *ret_loss,
                    double *ret_burst)
{
    struct sl_channel *c;
    struct sl_err err;
    bool before[16 * 16] = {false};
    uint64_t lost = 0, runs = 0, all = 0;
    check(sl_channel_new(level, n, 11, &c, &err), &err);
    for (uint32_t t = 0; t < n_steps; t++) {
        sl_channel_step(c);
        for (uint32_t i = 0; i < n * n; i++) {
            bool gone = !sl_channel_delivers(c, i / n, i % n);
            runs += gone && !before[i];
            lost += gone;
            all += i / n != i % n;
            before[i] = gone;
        }
    }
    sl_channel_free(c);
    *ret_loss = (double)lost / (double)all;
    *ret_burst = runs == 0 ? 0 : (double)lost / (double)runs;
}

/* Bounds: four standard errors of the short form (some 100,000 steps of pairs in runs of 1.5). */
static void measured_losses_and_runs_are_those_of_the_chain(void **state)
{
    for (unsigned level = 0; level < SL_CHANNEL_LEVELS; level++) {
        double loss, burst, want_loss, want_burst;
        uint32_t n_steps = is_long ? 20000 : 500;
        sl_channel_expect((enum sl_channel_level)level, &want_loss, &want_burst);
        measure((enum sl_channel_level)level, 15, n_steps, &loss, &burst);
        expect_near("loss", loss, want_loss, .001, .006);
        expect_near("burst", burst, want_burst, .01, .06);
    }
}

static void a_pair_loses_the_same_whoever_else_is_there(void **state)
{
    struct sl_channel *a, *b;
    struct sl_err err;
    uint32_t differ = 0, other_pair = 0;
    check(sl_channel_new(SL_CHANNEL_HEAVY, 4, 3, &a, &err), &err);
    check(sl_channel_new(SL_CHANNEL_HEAVY, 9, 3, &b, &err), &err);
    sl_channel_reset(a, 17);
    sl_channel_reset(b, 17);
    for (int t = 0; t < 500; t++) {
        sl_channel_step(a);
        sl_channel_step(b);
        differ += sl_channel_delivers(a, 1, 3) != sl_channel_delivers(b, 1, 3);
        other_pair += sl_channel_delivers(a, 1, 3) != sl_channel_delivers(a, 3, 1);
        assert_true(sl_channel_delivers(a, 2, 2));
    }
    assert_int_equal(differ, 0);
    assert_in_range(other_pair, 40, 200);
    sl_channel_reset(a, 18);
    sl_channel_reset(b, 17);
    for (int t = 0; t < 500; t++) {
        sl_channel_step(a);
        sl_channel_step(b);
        differ += sl_channel_delivers(a, 1, 3) != sl_channel_delivers(b, 1, 3);
    }
    assert_in_range(differ, 40, 200);
    sl_channel_free(a);
    sl_channel_free(b);
}

static void channels_of_nobody_or_of_too_many_are_refused(void **state)
{
    struct sl_channel *c;
    struct sl_err err;
    assert_int_equal(sl_channel_new(SL_CHANNEL_LIGHT, 0, 1, &c, &err), SL_E_RANGE);
    assert_int_equal(sl_channel_new(SL_CHANNEL_LIGHT, SL_CHANNEL_PARTIES_MAX + 1, 1, &c, &err),
                     SL_E_RANGE);
}

/* --- messages --------------------------------------------------------------------- */

struct figures {
    double sent, invalid, error, near; /* near: lost records within delta of the last delivered one */
};

struct sums {
    uint64_t sent, invalid, lost, near;
    double error, square;
};

/* rho 0: white noise. */
struct message {
    double rho, sigma;
};

static void run_pair(uint32_t pair, const struct message *m, const struct sl_tmc_options *o,
                     const struct sl_channel *c, struct sums *s, uint32_t t, float *v,
                     struct sl_rng *rng, struct sl_tmc_gate *g, struct sl_tmc_inbox *b)
{
    struct sl_tmc_record r;
    for (int k = 0; k < WIDTH; k++)
        v[k] = (float)(m->rho * (double)v[k] + m->sigma * sl_rng_normal(rng));
    if (sl_tmc_is_sent(sl_tmc_offer(g, t, t, v, &r))) {
        s->sent++;
        if (sl_channel_delivers(c, pair, pairs())) {
            sl_tmc_receive(b, t, 0, &r);
        } else {
            s->lost++;
            s->near += sl_tmc_distance(o, sl_tmc_look(b, 0).values, v) <= o->delta;
        }
    }
    sl_tmc_settle(b, t);
    float heard[WIDTH];
    sl_tmc_combine(b, SL_TMC_SUM, UINT32_MAX, heard);
    s->invalid += !sl_tmc_is_valid(b, 0);
    for (int k = 0; k < WIDTH; k++) {
        double d = (double)heard[k] - (double)v[k];
        s->error += d * d;
        s->square += (double)v[k] * (double)v[k];
    }
}

static struct figures simulate(const struct message *m, enum sl_channel_level level,
                               uint32_t timeout, uint32_t window)
{
    static struct sl_tmc_gate gates[PAIRS_MAX];
    struct sl_tmc_inbox boxes[PAIRS_MAX];
    struct sl_rng rngs[PAIRS_MAX];
    float v[PAIRS_MAX][WIDTH];
    struct sl_channel *c;
    struct sl_err err;
    struct sums s = {0};
    struct sl_tmc_options o = sl_tmc_defaults(WIDTH);
    o.timeout = timeout;
    o.window = window;
    check(sl_channel_new(level, pairs() + 1, 21, &c, &err), &err);
    for (uint32_t i = 0; i < pairs(); i++) {
        const struct sl_rng_id id = {.seed = 9, .purpose = SL_RNG_TEST, .client = i};
        sl_rng_init(&rngs[i], &id);
        sl_tmc_gate_start(&gates[i], &o, i, 1);
        check(sl_tmc_inbox_init(&boxes[i], &o, 1, &err), &err);
        for (int k = 0; k < WIDTH; k++)
            v[i][k] = (float)(m->sigma / sqrt(1 - m->rho * m->rho) * sl_rng_normal(&rngs[i]));
    }
    for (uint32_t t = 0; t < steps(); t++) {
        sl_channel_step(c);
        for (uint32_t i = 0; i < pairs(); i++)
            run_pair(i, m, &o, c, &s, t, v[i], &rngs[i], &gates[i], &boxes[i]);
    }
    for (uint32_t i = 0; i < pairs(); i++)
        sl_tmc_inbox_deinit(&boxes[i]);
    sl_channel_free(c);
    double all = (double)pairs() * (double)steps();
    return (struct figures){.sent = (double)s.sent / all,
                            .invalid = (double)s.invalid / all,
                            .error = s.error / s.square,
                            .near = s.lost == 0 ? 1 : (double)s.near / (double)s.lost};
}

static const struct message slow = {.999, .02}, white = {0, 1};

/* The table of the protocol's digest. Narrow bounds are half a unit of the table's last digit and two
 * standard errors of 800,000 steps; wide ones are for 48,000 steps, of which 8,000 send. */
static void a_slow_message_gives_the_figures_of_the_table(void **state)
{
    static const struct row {
        enum sl_channel_level level;
        double invalid6, error6, invalid12, error12, near;
    } rows[] = {{SL_CHANNEL_NONE, 0, .005, 0, .005, 1},
                {SL_CHANNEL_LIGHT, .010, .015, .0001, .006, .97},
                {SL_CHANNEL_MEDIUM, .071, .075, .005, .012, .95},
                {SL_CHANNEL_HEAVY, .102, .105, .012, .018, .93}};
    for (size_t i = 0; i < 4; i++) {
        const struct row *w = &rows[i];
        struct figures six = simulate(&slow, w->level, 6, 6),
                       twelve = simulate(&slow, w->level, 6, 12);
        if (is_long)
            printf("%-6s window 6: %.4f %.4f  window 12: %.4f %.4f  near %.3f  sent %.4f\n",
                   sl_channel_name(w->level), six.invalid, six.error, twelve.invalid,
                   twelve.error, twelve.near, twelve.sent);
        expect_near("send rate", twelve.sent, 1 / 6., .003, .006);
        expect_near("invalid, window 6", six.invalid, w->invalid6, .003, .015);
        expect_near("error, window 6", six.error, w->error6, .005, .03);
        expect_near("invalid, window 12", twelve.invalid, w->invalid12, .0015, .006);
        expect_near("error, window 12", twelve.error, w->error12, .002, .01);
        if (w->level != SL_CHANNEL_NONE)
            expect_near("lost within delta", twelve.near, w->near, .015, .06);
    }
}

static void without_a_buffer_the_gated_message_is_mostly_missing(void **state)
{
    for (unsigned level = 0; level < SL_CHANNEL_LEVELS; level++) {
        struct figures f = simulate(&slow, (enum sl_channel_level)level, 6, 0);
        expect_near("error without a buffer", f.error, .84, .015, .03);
    }
}

/* In theory 2p and p, with p the loss of .120. */
static void on_white_noise_holding_is_worse_than_zeroing(void **state)
{
    struct figures hold = simulate(&white, SL_CHANNEL_HEAVY, 6, 12),
                   zero = simulate(&white, SL_CHANNEL_HEAVY, 6, 0);
    assert_true(hold.sent == 1 && zero.sent == 1);
    expect_near("error when holding", hold.error, .245, .008, .02);
    expect_near("error when zeroing", zero.error, .122, .004, .01);
    assert_true(hold.error > 1.8 * zero.error);
}

int main(int argc, char **argv)
{
    is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_lose_what_their_tables_say),
        cmocka_unit_test(measured_losses_and_runs_are_those_of_the_chain),
        cmocka_unit_test(a_pair_loses_the_same_whoever_else_is_there),
        cmocka_unit_test(channels_of_nobody_or_of_too_many_are_refused),
        cmocka_unit_test(a_slow_message_gives_the_figures_of_the_table),
        cmocka_unit_test(without_a_buffer_the_gated_message_is_mostly_missing),
        cmocka_unit_test(on_white_noise_holding_is_worse_than_zeroing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

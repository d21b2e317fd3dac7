/* SPDX-License-Identifier: Apache-2.0 */
/* T9 of the protocol's list of properties: the weight of L_r raises the gap between the best two actions,
 * the weight of L_s lowers the share of messages sent at the same delta. Small teams, both forms of
 * the regularisers; figures are means over three seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "sim/policy/pace_game.h"
#include "sim/policy/tmc_learn.h"
#include "sim/policy/tmc_play.h"

enum { GAMES = 8, SEEDS = 3 };

struct outcome {
    double sent, gap;
};

static void check(int rc, const struct sl_err *err)
{
    if (rc != SL_OK)
        fail_msg("%s", err->msg);
}

static struct sl_tmc_played_sums train_and_play(const struct sl_tmc_learn_options *o)
{
    const struct sl_pace_options game = {SL_PACE_DEFAULTS};
    struct sl_game *games[GAMES];
    struct sl_tmc_play_options play = {
        .gate = sl_tmc_defaults(2), .episodes = 64, .seed = 1000 + o->seed};
    struct sl_tmc_played_sums sums;
    struct sl_tmc_learned how;
    struct sl_tmc_net net;
    struct sl_err err;
    play.gate.delta = .01;
    for (int i = 0; i < GAMES; i++)
        check(sl_pace_game_new(&game, &games[i], &err), &err);
    check(sl_tmc_learn(o, games, GAMES, &net, &how, &err), &err);
    check(sl_tmc_play(&net, &play, games, GAMES, &sums, &err), &err);
    sl_tmc_net_deinit(&net);
    for (int i = 0; i < GAMES; i++)
        sl_game_free(games[i]);
    return sums;
}

static struct outcome outcome_of(enum sl_tmc_form form, double smooth, double confident)
{
    struct outcome mean = {0, 0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_tmc_learn_options o = {SL_TMC_LEARN_DEFAULTS};
        o.hidden = 16;
        o.gamma = 0;
        o.lr = 4e-3;
        o.lr_end = .1;
        o.batch = 8;
        o.replay = 500;
        o.episodes = 640;
        o.epsilon_episodes = 320;
        o.smooth.form = o.confident.form = form;
        o.smooth.lambda = smooth;
        o.confident.lambda = confident;
        o.seed = seed;
        struct sl_tmc_played_sums s = train_and_play(&o);
        mean.sent += s.sent / SEEDS;
        mean.gap += s.gap / SEEDS;
    }
    printf("form %d, smooth %g, confident %g: sent %.4f, gap %.4f\n", (int)form, smooth, confident,
           mean.sent, mean.gap);
    return mean;
}

static void confidence_widens_the_gap(enum sl_tmc_form form, const double lambdas[3])
{
    double before = 0;
    for (int i = 0; i < 3; i++) {
        double gap = outcome_of(form, 0, lambdas[i]).gap;
        assert_true(gap > before);
        before = gap;
    }
}

static void smoothness_saves_messages(enum sl_tmc_form form, const double lambdas[3])
{
    double before = 2;
    for (int i = 0; i < 3; i++) {
        double sent = outcome_of(form, lambdas[i], 0).sent;
        assert_true(sent < before);
        before = sent;
    }
}

static void a_greater_weight_of_confidence_widens_the_gap(void **state)
{
    confidence_widens_the_gap(SL_TMC_FORM_CODE, (const double[]){0, 1, 10});
    confidence_widens_the_gap(SL_TMC_FORM_PAPER, (const double[]){0, .05, .2});
}

static void a_greater_weight_of_smoothness_saves_messages(void **state)
{
    smoothness_saves_messages(SL_TMC_FORM_CODE, (const double[]){0, 3, 30});
    smoothness_saves_messages(SL_TMC_FORM_PAPER, (const double[]){0, .01, .1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greater_weight_of_confidence_widens_the_gap),
        cmocka_unit_test(a_greater_weight_of_smoothness_saves_messages),
    };
    sl_accel_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Teams with messages: derivatives against finite differences in both readings, the regularisers'
 * values, T8 (each agent's best actions are the team's best), training as a function of its seed, and
 * play over channels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "common/rng.h"
#include "sim/policy/pace_game.h"
#include "sim/policy/tmc_learn.h"
#include "sim/policy/tmc_play.h"

static void check(int rc, const struct sl_err *err)
{
    if (rc != SL_OK)
        fail_msg("%s", err->msg);
}

static struct sl_rng rng_of(uint32_t number)
{
    struct sl_rng rng;
    const struct sl_rng_id id = {.seed = 6, .purpose = SL_RNG_TEST, .round = number};
    sl_rng_init(&rng, &id);
    return rng;
}

static void fill(struct sl_rng *rng, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] = (float)sl_rng_normal(rng);
}

/* --- regularisers ----------------------------------------------------------------- */

enum { T = 6, B = 3, N = 2, A = 3, COUNT = T * B * N * A };

static const uint32_t lengths[B] = {6, 4, 1};
static const struct sl_tmc_batch_shape small = {T, B, N, A, lengths};

typedef double (*loss_fn)(const float *v, float *dv);

static double smooth_paper(const float *m, float *dm)
{
    return sl_tmc_smooth_loss(&small, SL_TMC_FORM_PAPER, 0.7, m, dm);
}

static double smooth_code(const float *m, float *dm)
{
    return sl_tmc_smooth_loss(&small, SL_TMC_FORM_CODE, 20, m, dm);
}

static double confident_paper(const float *q, float *dq)
{
    return sl_tmc_confident_loss(&small, SL_TMC_FORM_PAPER, 0.7, q, NULL, dq);
}

static double confident_code(const float *q, float *dq)
{
    return sl_tmc_confident_loss(&small, SL_TMC_FORM_CODE, 500, q, NULL, dq);
}

static const uint16_t some[T * B * N] = {7, 3, 5, 6, 1, 0, 7, 7, 3, 3, 5, 5, 2, 4, 7, 6, 6, 3,
                                         7, 3, 5, 6, 1, 0, 7, 7, 3, 3, 5, 5, 2, 4, 7, 6, 6, 3};

static double confident_masked(const float *q, float *dq)
{
    return sl_tmc_confident_loss(&small, SL_TMC_FORM_PAPER, 0.7, q, some, dq);
}

static double value(const float *q, float *dq)
{
    static const uint8_t actions[T * B * N] = {0, 1, 2, 1, 0, 2, 2, 2, 1, 1, 0, 1};
    static const float y[T * B] = {1, -2, 3, .5f, 0, 2};
    return sl_tmc_value_loss(&small, q, actions, y, dq);
}

static void losses_have_the_derivatives_they_state(void **state)
{
    static const loss_fn losses[] = {smooth_paper,   smooth_code,      confident_paper,
                                     confident_code, confident_masked, value};
    for (size_t f = 0; f < sizeof(losses) / sizeof(losses[0]); f++) {
        float v[COUNT], dv[COUNT] = {0}, waste[COUNT];
        struct sl_rng rng = rng_of((uint32_t)f);
        size_t moved = 0;
        fill(&rng, v, COUNT);
        for (int i = 0; i < COUNT; i++) { /* no two actions so near that a difference swaps them */
            v[i] = 0.5f * rintf(2 * v[i]) + 0.1f * (float)(i % A);
            v[i] *= f == 3 ? 0.05f : 1; /* where exp(-25 gap) is not yet nothing */
        }
        losses[f](v, dv);
        for (int i = 0; i < COUNT; i++) {
            float h = f == 3 ? 0x1p-12f : 0x1p-8f, kept = v[i];
            v[i] = kept + h;
            double up = losses[f](v, waste);
            v[i] = kept - h;
            double down = losses[f](v, waste);
            v[i] = kept;
            double slope = (up - down) / (2 * (double)h);
            if (fabs(slope - (double)dv[i]) > 2e-3 * (1 + fabs(slope)))
                fail_msg("loss %zu, element %d: %g, by differences %g", f, i, (double)dv[i], slope);
            moved += slope != 0;
        }
        assert_true(moved > 10);
    }
}

static void a_regulariser_adds_to_what_is_there(void **state)
{
    float v[COUNT], once[COUNT] = {0}, twice[COUNT];
    struct sl_rng rng = rng_of(50);
    fill(&rng, v, COUNT);
    smooth_code(v, once);
    memcpy(twice, once, sizeof(once));
    smooth_code(v, twice);
    for (int i = 0; i < COUNT; i++)
        assert_true(fabsf(twice[i] - 2 * once[i]) <= 1e-5f * (1 + fabsf(once[i])));
}

/* One episode, one agent, messages 0, 1, 3 of width 1 in turn (and a second, constant one of 0). */
static void smoothness_is_the_sum_that_the_papers_write(void **state)
{
    const uint32_t three = 3;
    const struct sl_tmc_batch_shape b = {3, 1, 1, 2, &three};
    const float m[6] = {0, 0, 1, 0, 3, 0};
    float dm[6] = {0};
    double paper = (1.5 * 1) + (1.5 * 4 + 1.0 * 9); /* lag 1 of step 1; lags 1 and 2 of step 2 */
    assert_true(fabs(sl_tmc_smooth_loss(&b, SL_TMC_FORM_PAPER, 3, m, dm) - 3 * paper / 3) < 1e-9);
    double s1 = 1.5 / (1 * 2 * (1 + 1e-6)), s2 = s1 + 15 / (2 * 2 * (9 + 1e-6));
    assert_true(fabs(sl_tmc_smooth_loss(&b, SL_TMC_FORM_CODE, 3, m, dm) - 3 * (s1 + s2) / 3) < 1e-9);
}

static void a_message_of_zeros_is_no_nan(void **state)
{
    const float m[COUNT] = {0};
    float dm[COUNT] = {0};
    assert_true(smooth_code(m, dm) == 0);
    for (int i = 0; i < COUNT; i++)
        assert_true(dm[i] == 0.0f);
}

static void the_gap_is_between_available_actions(void **state)
{
    const float q[4] = {5, 1, 3, 2};
    uint8_t top[2];
    assert_true(sl_tmc_gap(q, 4, UINT16_MAX, top) == 2 && top[0] == 0 && top[1] == 2);
    assert_true(sl_tmc_gap(q, 4, 0xe, top) == 1 && top[0] == 2 && top[1] == 3);
    assert_true(sl_tmc_gap(q, 4, 0x2, top) < 0);
    assert_true(sl_tmc_gap(q, 4, 0, top) < 0);
    const float even[2] = {1, 1};
    assert_true(sl_tmc_gap(even, 2, UINT16_MAX, top) == 0 && top[0] == 0 && top[1] == 1);
}

/* --- network ---------------------------------------------------------------------- */

enum { STEPS = 5, GROUPS = 2 };

static struct sl_tmc_net net_of(enum sl_tmc_message message, enum sl_tmc_listen listen,
                                uint32_t agents, uint32_t actions)
{
    const struct sl_tmc_shape shape = {.n_agents = agents,
                                       .n_inputs = 2,
                                       .n_actions = actions,
                                       .hidden = 7,
                                       .message = message,
                                       .listen = listen};
    struct sl_tmc_net net;
    struct sl_err err;
    check(sl_tmc_net_new(&shape, 4, &net, &err), &err);
    return net;
}

static void fill_trace(const struct sl_tmc_net *net, struct sl_tmc_trace *t, struct sl_rng *rng)
{
    for (size_t row = 0; row < t->steps * t->groups * net->shape.n_agents; row++) {
        float seen[2];
        fill(rng, seen, 2);
        sl_tmc_fill_row(net, seen, (int)sl_rng_below(rng, net->shape.n_actions + 1) - 1,
                        (uint32_t)(row % net->shape.n_agents), t->x + row * net->width);
    }
}

/* Random weights on everything that comes out make a scalar. */
static double outcome(const struct sl_tmc_net *net, struct sl_tmc_trace *t, const float *wq,
                      const float *wm)
{
    double sum = 0;
    sl_tmc_trace_restart(net, t);
    sl_tmc_net_forward(net, t, STEPS);
    for (size_t i = 0; i < (size_t)STEPS * GROUPS * net->shape.n_agents * net->shape.n_actions; i++)
        sum += (double)wq[i] * (double)t->global[i] + (double)wm[i] * (double)t->m[i];
    return sum;
}

static void compare_derivatives(struct sl_tmc_net *net)
{
    struct sl_tmc_trace t;
    struct sl_err err;
    struct sl_rng rng = rng_of(100);
    size_t n = (size_t)STEPS * GROUPS * net->shape.n_agents * net->shape.n_actions;
    float *wq = calloc(n, sizeof(*wq)), *wm = calloc(n, sizeof(*wm)),
          *grads = calloc(net->n_values, sizeof(*grads));
    check(sl_tmc_trace_new(net, STEPS, GROUPS, 1, &t, &err), &err);
    fill_trace(net, &t, &rng);
    fill(&rng, wq, n);
    fill(&rng, wm, n);
    outcome(net, &t, wq, wm);
    sl_tmc_net_backward(net, &t, STEPS, wq, wm, grads);
    for (size_t i = 0; i < net->n_values; i++) {
        float kept = net->values[i], h = 0x1p-7f;
        net->values[i] = kept + h;
        double up = outcome(net, &t, wq, wm);
        net->values[i] = kept - h;
        double down = outcome(net, &t, wq, wm);
        net->values[i] = kept;
        double slope = (up - down) / (2 * (double)h);
        if (fabs(slope - (double)grads[i]) > 0.02 * (1 + fabs(slope)))
            fail_msg("value %zu of %zu: %g, by differences %g", i, net->n_values, (double)grads[i],
                     slope);
    }
    free(wq);
    free(wm);
    free(grads);
    sl_tmc_trace_deinit(&t);
}

static void the_way_back_through_time_is_the_derivative(void **state)
{
    static const enum sl_tmc_message messages[] = {SL_TMC_MESSAGE_CELL, SL_TMC_MESSAGE_MLP};
    static const enum sl_tmc_listen listens[] = {SL_TMC_LISTEN_MEAN, SL_TMC_LISTEN_SUM,
                                                 SL_TMC_LISTEN_MUTE};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) {
            struct sl_tmc_net net = net_of(messages[i], listens[k], 3, 2);
            compare_derivatives(&net);
            sl_tmc_net_deinit(&net);
        }
}

static void step_by_step_is_the_sequence(void **state)
{
    for (int mlp = 0; mlp < 2; mlp++) {
        struct sl_tmc_net net = net_of(mlp ? SL_TMC_MESSAGE_MLP : SL_TMC_MESSAGE_CELL,
                                       SL_TMC_LISTEN_MEAN, 4, 3);
        struct sl_tmc_trace all, one;
        struct sl_err err;
        struct sl_rng rng = rng_of(101);
        check(sl_tmc_trace_new(&net, STEPS, GROUPS, 0, &all, &err), &err);
        check(sl_tmc_trace_new(&net, 1, GROUPS, 0, &one, &err), &err);
        fill_trace(&net, &all, &rng);
        sl_tmc_net_forward(&net, &all, STEPS);
        size_t rows = GROUPS * 4, out = rows * 3;
        for (size_t t = 0; t < STEPS; t++) {
            memcpy(one.x, all.x + t * rows * net.width, rows * net.width * sizeof(float));
            sl_tmc_net_forward(&net, &one, 1);
            for (size_t i = 0; i < out; i++)
                assert_true(fabsf(one.global[i] - all.global[t * out + i]) < 1e-5f);
            sl_tmc_trace_continue(&net, &one, 1);
        }
        sl_tmc_trace_deinit(&all);
        sl_tmc_trace_deinit(&one);
        sl_tmc_net_deinit(&net);
    }
}

static void a_cell_speaks_within_one(void **state)
{
    struct sl_tmc_net net = net_of(SL_TMC_MESSAGE_CELL, SL_TMC_LISTEN_MEAN, 3, 2);
    struct sl_tmc_trace t;
    struct sl_err err;
    struct sl_rng rng = rng_of(102);
    check(sl_tmc_trace_new(&net, STEPS, GROUPS, 0, &t, &err), &err);
    for (size_t i = 0; i < net.n_values; i++)
        net.values[i] *= 50;
    fill_trace(&net, &t, &rng);
    sl_tmc_net_forward(&net, &t, STEPS);
    for (size_t i = 0; i < (size_t)STEPS * GROUPS * 3 * 2; i++)
        assert_true(fabsf(t.m[i]) <= 1.0f);
    sl_tmc_trace_deinit(&t);
    sl_tmc_net_deinit(&net);
}

/* Q_tot over every joint action, agents' inboxes frozen in whatever state. */
static void each_agents_best_actions_are_the_teams_best(void **state)
{
    enum { ACTIONS = 3 };
    for (uint32_t agents = 2; agents <= 6; agents++) {
        struct sl_rng rng = rng_of(200 + agents);
        struct sl_tmc_options o = sl_tmc_defaults(ACTIONS);
        float q[6 * ACTIONS];
        uint8_t greedy[6];
        struct sl_tmc_inbox b;
        struct sl_err err;
        for (uint32_t n = 0; n < agents; n++) {
            check(sl_tmc_inbox_init(&b, &o, agents, &err), &err);
            for (uint32_t k = 0; k < agents; k++) {
                struct sl_tmc_record r = {.boot = 1, .width = ACTIONS};
                fill(&rng, r.values, ACTIONS);
                if (k != n && sl_rng_below(&rng, 3) > 0)
                    sl_tmc_receive(&b, sl_rng_below(&rng, 30), k, &r);
            }
            sl_tmc_settle(&b, 30);
            float local[ACTIONS];
            fill(&rng, local, ACTIONS);
            sl_tmc_combine(&b, SL_TMC_MEAN, n, q + (size_t)n * ACTIONS);
            for (uint32_t a = 0; a < ACTIONS; a++)
                q[n * ACTIONS + a] += local[a];
            greedy[n] = sl_tmc_best(q + (size_t)n * ACTIONS, ACTIONS);
            sl_tmc_inbox_deinit(&b);
        }
        uint32_t joint = 1;
        double best = -INFINITY, of_greedy = 0;
        for (uint32_t n = 0; n < agents; n++) {
            joint *= ACTIONS;
            of_greedy += (double)q[n * ACTIONS + greedy[n]];
        }
        for (uint32_t j = 0; j < joint; j++) {
            double sum = 0;
            for (uint32_t n = 0, rest = j; n < agents; n++, rest /= ACTIONS)
                sum += (double)q[n * ACTIONS + rest % ACTIONS];
            best = sum > best ? sum : best;
        }
        assert_true(of_greedy == best);
    }
}

static void shapes_beyond_the_limits_are_refused(void **state)
{
    struct sl_tmc_shape shape = {.n_agents = 1, .n_inputs = 1, .n_actions = 2, .hidden = 8};
    struct sl_tmc_net net;
    struct sl_err err;
    assert_int_equal(sl_tmc_net_new(&shape, 1, &net, &err), SL_E_RANGE);
    shape.n_agents = 2;
    shape.hidden = SL_TMC_HIDDEN_MAX + 1;
    assert_int_equal(sl_tmc_net_new(&shape, 1, &net, &err), SL_E_RANGE);
}

/* --- training and play ------------------------------------------------------------ */

enum { GAMES = 4 };

static void make_games(struct sl_game *games[GAMES])
{
    struct sl_pace_options o = {SL_PACE_DEFAULTS};
    struct sl_err err;
    o.n_agents = 4;
    o.steps = 12;
    for (int i = 0; i < GAMES; i++)
        check(sl_pace_game_new(&o, &games[i], &err), &err);
}

static void free_games(struct sl_game *games[GAMES])
{
    for (int i = 0; i < GAMES; i++)
        sl_game_free(games[i]);
}

static struct sl_tmc_learn_options brief(uint64_t seed)
{
    struct sl_tmc_learn_options o = {SL_TMC_LEARN_DEFAULTS};
    o.hidden = 16;
    o.gamma = 0;
    o.lr = 5e-3;
    o.lr_end = .1;
    o.episodes = 600;
    o.replay = 200;
    o.batch = 8;
    o.epsilon_episodes = 300;
    o.seed = seed;
    return o;
}

static struct sl_tmc_net train(struct sl_game *games[GAMES], const struct sl_tmc_learn_options *o)
{
    struct sl_tmc_net net;
    struct sl_tmc_learned how;
    struct sl_err err;
    check(sl_tmc_learn(o, games, GAMES, &net, &how, &err), &err);
    assert_int_equal(how.steps, (uint64_t)o->episodes * 12);
    return net;
}

static struct sl_tmc_played_sums play(const struct sl_tmc_net *net, struct sl_game *games[GAMES],
                                      enum sl_channel_level level, uint32_t timeout,
                                      uint32_t window)
{
    struct sl_tmc_play_options o = {.gate = sl_tmc_defaults(2), .channel = level, .episodes = 100,
                                    .seed = 77};
    struct sl_tmc_played_sums sums;
    struct sl_err err;
    o.gate.timeout = timeout;
    o.gate.window = window;
    check(sl_tmc_play(net, &o, games, GAMES, &sums, &err), &err);
    return sums;
}

static void a_training_is_a_function_of_its_seed(void **state)
{
    struct sl_game *games[GAMES];
    struct sl_tmc_learn_options o = brief(1);
    o.gamma = 0.9; /* with the target net */
    o.target_every = 16;
    o.episodes = 40;
    o.message = SL_TMC_MESSAGE_MLP;
    make_games(games);
    struct sl_tmc_net a = train(games, &o), b = train(games, &o);
    o.seed = 2;
    struct sl_tmc_net c = train(games, &o);
    assert_memory_equal(a.values, b.values, a.n_values * sizeof(float));
    assert_memory_not_equal(a.values, c.values, a.n_values * sizeof(float));
    sl_tmc_net_deinit(&a);
    sl_tmc_net_deinit(&b);
    sl_tmc_net_deinit(&c);
    free_games(games);
}

static void a_team_that_speaks_earns_more_than_a_mute_one(void **state)
{
    struct sl_game *games[GAMES];
    struct sl_tmc_learn_options o = brief(3);
    make_games(games);
    struct sl_tmc_net speaks = train(games, &o);
    o.listen = SL_TMC_LISTEN_MUTE;
    struct sl_tmc_net mute = train(games, &o);
    double with = play(&speaks, games, SL_CHANNEL_NONE, 1, 0).reward,
           without = play(&mute, games, SL_CHANNEL_NONE, 1, 0).reward;
    if (!(with > 1.3 * without && without > 0))
        fail_msg("an episode earns %.3f with messages, %.3f without", with, without);
    sl_tmc_net_deinit(&speaks);
    sl_tmc_net_deinit(&mute);
    free_games(games);
}

static void play_counts_what_was_sent_lost_and_used(void **state)
{
    struct sl_game *games[GAMES];
    struct sl_tmc_net net;
    struct sl_err err;
    const struct sl_tmc_shape shape = {
        .n_agents = 4, .n_inputs = 1, .n_actions = 2, .hidden = 8};
    make_games(games);
    check(sl_tmc_net_new(&shape, 9, &net, &err), &err);
    struct sl_tmc_played_sums all = play(&net, games, SL_CHANNEL_NONE, 1, 0),
                              gated = play(&net, games, SL_CHANNEL_HEAVY, 6, 0),
                              again = play(&net, games, SL_CHANNEL_HEAVY, 6, 0);
    assert_true(all.sent == 1 && all.invalid == 0 && all.lost == 0 && all.flips == 0);
    assert_int_equal(all.senders.sent, 4 * 12 * 100);
    assert_int_equal(all.receivers.received, 3 * 4 * 12 * 100);
    assert_int_equal(gated.senders.sent + gated.senders.suppressed, 4 * 12 * 100);
    assert_true(gated.lost > .08 && gated.lost < .16);
    /* without a buffer an entry counts in the step in which it arrived, and only then */
    assert_true(fabs((1 - gated.invalid) * 3 * 4 * 12 * 100 - (double)gated.receivers.received) <
                1e-3);
    assert_int_equal(gated.receivers.stale_uses, 0);
    assert_memory_equal(&gated, &again, sizeof(gated));
    sl_tmc_net_deinit(&net);
    free_games(games);
}

static void a_game_pays_those_below_the_mean(void **state)
{
    struct sl_pace_options o = {SL_PACE_DEFAULTS};
    struct sl_game *g;
    struct sl_err err;
    double best = 0, all = 0;
    bool done = false;
    o.n_agents = 5;
    o.steps = 30;
    check(sl_pace_game_new(&o, &g, &err), &err);
    g->ops->reset(g, 12);
    for (uint32_t t = 0; t < 30; t++) {
        float y[5];
        uint8_t actions[5], everybody[5] = {1, 1, 1, 1, 1};
        double mean = 0;
        g->ops->observe(g, y);
        for (int n = 0; n < 5; n++)
            mean += (double)y[n] / 5;
        for (int n = 0; n < 5; n++)
            actions[n] = (double)y[n] < mean;
        double most = sl_pace_best(g);
        assert_false(done);
        double r = g->ops->step(g, t == 7 ? everybody : actions, &done);
        all = t == 7 ? r : all;
        best += t == 7 ? 0 : fabs(r - most);
    }
    assert_true(done);
    assert_true(best < 1e-4);
    assert_true(fabs(all) < 1e-9); /* differences from the mean add up to nothing */
    sl_game_free(g);
    struct sl_pace_options bad = o;
    bad.memory = 1;
    assert_int_equal(sl_pace_game_new(&bad, &g, &err), SL_E_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_have_the_derivatives_they_state),
        cmocka_unit_test(a_regulariser_adds_to_what_is_there),
        cmocka_unit_test(smoothness_is_the_sum_that_the_papers_write),
        cmocka_unit_test(a_message_of_zeros_is_no_nan),
        cmocka_unit_test(the_gap_is_between_available_actions),
        cmocka_unit_test(the_way_back_through_time_is_the_derivative),
        cmocka_unit_test(step_by_step_is_the_sequence),
        cmocka_unit_test(a_cell_speaks_within_one),
        cmocka_unit_test(each_agents_best_actions_are_the_teams_best),
        cmocka_unit_test(shapes_beyond_the_limits_are_refused),
        cmocka_unit_test(a_training_is_a_function_of_its_seed),
        cmocka_unit_test(a_team_that_speaks_earns_more_than_a_mute_one),
        cmocka_unit_test(play_counts_what_was_sent_lost_and_used),
        cmocka_unit_test(a_game_pays_those_below_the_mean),
    };
    sl_accel_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

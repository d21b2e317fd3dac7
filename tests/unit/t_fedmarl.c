/* SPDX-License-Identifier: Apache-2.0 */
/* Features, reward, network, learner, rails and records of FedMarl: F1 to F4, F8, F9, F11, F12 of
 * the method, and policy files that must be refused. */
#include "server/selection/fedmarl/policy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "common/rng.h"
#include "server/selection/fedmarl/record.h"
#include "server/selection/fedmarl/reward.h"
#include "server/selection/fedmarl/vdn.h"

#define N 12

static struct sl_rng rng_of(uint64_t seed)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    return r;
}

static const struct sl_round_facts round_facts = {.seed = 7,
                                                  .round = 6,
                                                  .rounds = 30,
                                                  .epochs = 5,
                                                  .probe_epochs = 1,
                                                  .loss_scale = 2.302585093,
                                                  .median_probe_s = 2,
                                                  .mean_probe_s = 3,
                                                  .mean_upload_s = 8,
                                                  .full_bytes = 4000,
                                                  .max_samples = 1000};

static void fill_rows(uint64_t seed, struct sl_client_facts *rows, size_t n)
{
    struct sl_rng r = rng_of(seed);
    for (size_t i = 0; i < n; i++) {
        rows[i] = (struct sl_client_facts){.client = 3 * (uint32_t)i + 1,
                                           .reported = true,
                                           .probe_loss = 3 * sl_rng_f64(&r),
                                           .samples = 50 + sl_rng_below(&r, 900),
                                           .upload_bytes = 4000,
                                           .n_probe = 1 + (uint32_t)sl_rng_below(&r, 8),
                                           .n_upload = (uint32_t)sl_rng_below(&r, 9)};
        for (uint32_t k = 0; k < SL_FACTS_HISTORY; k++) {
            rows[i].probe_s[k] = 5 * sl_rng_f64(&r);
            rows[i].upload_s[k] = 9 * sl_rng_f64(&r);
        }
    }
}

static struct sl_fedmarl_policy random_policy(uint64_t seed, uint32_t layers)
{
    struct sl_fedmarl_policy p = {.spec = {.n_probe = 3, .n_upload = 3}};
    const struct sl_qnet_shape shape = {sl_fedmarl_n_inputs(&p.spec), 32, layers, 2};
    assert_int_equal(sl_qnet_new(&shape, seed, &p.net, NULL), SL_OK);
    return p;
}

/* --- features and reward ---------------------------------------------------------------------- */

static void features_are_scaled_and_clamped(void **state)
{
    const struct sl_fedmarl_spec spec = {.n_probe = 3, .n_upload = 2, .gate = true};
    const struct sl_client_facts row = {.probe_loss = 2 * 2.302585093,
                                        .samples = 100,
                                        .upload_bytes = 1000,
                                        .n_probe = 2,
                                        .n_upload = 1,
                                        .probe_s = {4, 100},
                                        .upload_s = {0},
                                        .message_age = 3,
                                        .message_valid = true};
    float x[SL_FEDMARL_INPUTS_MAX];
    static const float want[] = {2, 1, 5, 4.7004397f, -5, -5, 0.25f, 2.0f / 3, 0.2f, 1, 0.1f, 1};
    assert_int_equal(sl_fedmarl_n_inputs(&spec), 12);
    sl_fedmarl_features(&spec, &round_facts, &row, 1, x);
    for (size_t i = 0; i < 12; i++)
        assert_float_equal(x[i], want[i], 1e-6);
}

static void a_new_client_gets_the_populations_times_and_what_is_not_finite_is_missing(void **state)
{
    const struct sl_fedmarl_spec spec = {.n_probe = 2, .n_upload = 2};
    const struct sl_client_facts row = {.probe_loss = NAN,
                                        .samples = 1000,
                                        .upload_bytes = 4000,
                                        .n_probe = 2,
                                        .probe_s = {INFINITY, -1}};
    float x[SL_FEDMARL_INPUTS_MAX];
    static const float want[] = {0, 0.5849625f, 0.5849625f, 2, 2, 1, 1, 0.2f, 0};
    sl_fedmarl_features(&spec, &round_facts, &row, 1, x);
    for (size_t i = 0; i < 9; i++)
        assert_float_equal(x[i], want[i], 1e-6);
}

static void times_keep_the_median_of_the_newest(void **state)
{
    struct sl_fedmarl_times t = {0};
    assert_true(sl_fedmarl_times_median(&t) == 0 && sl_fedmarl_times_mean(&t) == 0);
    for (int i = 0; i < 300; i++)
        sl_fedmarl_times_add(&t, i);
    sl_fedmarl_times_add(&t, NAN);
    sl_fedmarl_times_add(&t, -1);
    assert_int_equal(t.n, SL_FEDMARL_TIMES);
    assert_true(sl_fedmarl_times_median(&t) == 171); /* of 44..299 */
    assert_true(fabs(sl_fedmarl_times_mean(&t) - 171.5) < 1e-12);
    assert_float_equal(sl_fedmarl_loss_scale_ce(10), 2.302585093, 1e-9);
    assert_true(sl_fedmarl_loss_scale_sphere(10, 100) == 1.1);
    assert_true(sl_fedmarl_loss_scale_sphere(100, 10) == 4);
}

static void latency_is_the_worked_example(void **state)
{
    const double probe[] = {2, 3, 5}, rest[] = {10, 4, 20};
    static const uint8_t sets[4][3] = {{1, 1, 0}, {0, 1, 0}, {0, 0, 0}, {1, 1, 1}};
    static const double want[] = {15, 9, 5, 25};
    for (size_t i = 0; i < 4; i++)
        assert_true(sl_fedmarl_latency(probe, rest, sets[i], 3) == want[i]);
}

static void cost_rises_with_the_accepted_set(void **state)
{
    struct sl_rng r = rng_of(1);
    for (int round = 0; round < 500; round++) {
        double probe[N], rest[N], bytes[N];
        uint8_t small[N], large[N];
        size_t slowest = N;
        for (size_t i = 0; i < N; i++) {
            probe[i] = sl_rng_f64(&r);
            rest[i] = sl_rng_f64(&r);
            bytes[i] = sl_rng_f64(&r);
            large[i] = sl_rng_below(&r, 2) == 1;
            small[i] = large[i] && sl_rng_below(&r, 2) == 1;
            if (large[i] && (slowest == N || rest[i] > rest[slowest]))
                slowest = i;
        }
        double all = sl_fedmarl_latency(probe, rest, large, N);
        assert_true(sl_fedmarl_latency(probe, rest, small, N) <= all);
        assert_true(sl_fedmarl_traffic(bytes, small, N) <= sl_fedmarl_traffic(bytes, large, N));
        for (size_t i = 0; i < N; i++) {
            if (!large[i] || i == slowest)
                continue;
            large[i] = 0;
            assert_true(sl_fedmarl_latency(probe, rest, large, N) == all);
            large[i] = 1;
        }
    }
}

static void both_utilities_rise_with_accuracy(void **state)
{
    for (int kind = SL_UTILITY_PAPER; kind <= SL_UTILITY_LATE; kind++) {
        const struct sl_fedmarl_reward r = {.utility = (enum sl_fedmarl_utility)kind, .c = 2};
        for (int i = 0; i < 1000; i++)
            assert_true(sl_fedmarl_utility_of(&r, i / 1000.0) <
                        sl_fedmarl_utility_of(&r, (i + 1) / 1000.0));
    }
    const struct sl_fedmarl_reward paper = {.utility = SL_UTILITY_PAPER};
    assert_float_equal(sl_fedmarl_utility_of(&paper, 0), -1.732, 1e-3);
    assert_float_equal(sl_fedmarl_utility_of(&paper, 0.5), -0.873, 1e-3);
    assert_true(fabs(sl_fedmarl_utility_of(&paper, 1)) < 1e-12);
}

static void utility_terms_telescope_and_costs_are_in_their_units(void **state)
{
    const struct sl_fedmarl_reward free = {.w1 = 10, .latency_ref_s = 1, .traffic_ref = 1};
    struct sl_rng r = rng_of(2);
    double first = sl_rng_f64(&r), now = first, sum = 0;
    for (int t = 0; t < 100; t++) {
        double next = sl_rng_f64(&r);
        sum += sl_fedmarl_reward_of(&free, now, next, 5, 5);
        now = next;
    }
    double ends = sl_fedmarl_utility_of(&free, now) - sl_fedmarl_utility_of(&free, first);
    assert_true(fabs(sum - 10 * ends) < 1e-9);
    const struct sl_fedmarl_reward cost = {
        .w1 = 10, .w2 = 0.2, .w3 = 0.1, .latency_ref_s = 50, .traffic_ref = 10};
    assert_float_equal(sl_fedmarl_reward_of(&cost, 0.5, 0.5, 50, 10), -0.3, 1e-12);
}

/* --- network and learner ---------------------------------------------------------------------- */

static void team_greedy_is_the_joint_optimum(void **state)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sl_client_facts rows[N];
        struct sl_fedmarl_policy p = random_policy(seed, 1);
        float x[N * SL_FEDMARL_INPUTS_MAX], q[2 * N];
        uint8_t greedy[N];
        fill_rows(seed, rows, N);
        sl_fedmarl_features(&p.spec, &round_facts, rows, N, x);
        sl_qnet_forward(&p.net, x, N, q);
        sl_vdn_greedy(q, N, 2, greedy);
        double best = -INFINITY, own = 0;
        for (uint32_t set = 0; set < 1u << N; set++) {
            double sum = 0;
            for (uint32_t i = 0; i < N; i++)
                sum += q[2 * i + (set >> i & 1)];
            best = sum > best ? sum : best;
        }
        for (uint32_t i = 0; i < N; i++)
            own += q[2 * i + greedy[i]];
        assert_true(own == best);
        sl_fedmarl_policy_deinit(&p);
    }
}

static void every_chosen_action_gets_the_same_gradient(void **state)
{
    struct sl_rng r = rng_of(3);
    for (int huber = 0; huber < 2; huber++)
        for (int round = 0; round < 200; round++) {
            float q[3 * N], dq[3 * N];
            uint8_t a[N];
            double total = 0, y = 8 * sl_rng_f64(&r) - 4;
            for (int i = 0; i < 3 * N; i++)
                q[i] = sl_rng_f32(&r) - 0.5f;
            for (uint32_t i = 0; i < N; i++) {
                a[i] = (uint8_t)sl_rng_below(&r, 3);
                total += q[3 * i + a[i]];
            }
            double loss = sl_vdn_loss(q, a, N, 3, y, huber == 1, 0.5, dq), error = total - y;
            double slope = huber == 1 && fabs(error) > 1 ? (error > 0 ? 1 : -1) : error;
            assert_true(loss >= 0);
            for (uint32_t i = 0; i < 3 * N; i++)
                assert_true(dq[i] == (i % 3 == a[i / 3] ? (float)(0.5 * slope) : 0));
        }
}

static void backward_is_the_derivative_of_forward(void **state)
{
    for (uint32_t layers = 1; layers <= 2; layers++) {
        const struct sl_qnet_shape shape = {5, 17, layers, 3};
        struct sl_qnet q;
        struct sl_rng r = rng_of(layers);
        float x[5], dq[3] = {0.7f, 0, -1.3f}, out[3];
        assert_int_equal(sl_qnet_new(&shape, 9, &q, NULL), SL_OK);
        float *grads = calloc(q.n_values, sizeof(float));
        for (int i = 0; i < 5; i++)
            x[i] = (float)sl_rng_normal(&r);
        sl_qnet_backward(&q, x, dq, grads);
        for (size_t v = 0; v < q.n_values; v++) {
            const float kept = q.values[v], h = 1e-3f;
            double sum[2];
            for (int side = 0; side < 2; side++) {
                q.values[v] = side == 0 ? kept - h : kept + h;
                sl_qnet_forward(&q, x, 1, out);
                sum[side] = (double)dq[0] * out[0] + (double)dq[2] * out[2];
            }
            q.values[v] = kept;
            assert_float_equal(grads[v], (sum[1] - sum[0]) / (2 * (double)h), 2e-3);
        }
        free(grads);
        sl_qnet_deinit(&q);
    }
}

static struct sl_vdn_options small_options(void)
{
    struct sl_vdn_options o = {.shape = {3, 16, 1, 2}, .n_agents = 4, SL_VDN_DEFAULTS};
    o.replay = 64;
    o.warmup = 32;
    o.batch = 8;
    o.target_every = 10;
    o.epsilon_steps = 100;
    o.seed = 5;
    return o;
}

static void push_random(struct sl_vdn *v, struct sl_rng *r, int n)
{
    for (int i = 0; i < n; i++) {
        float s[12], next[12];
        uint8_t a[4];
        for (int k = 0; k < 12; k++) {
            s[k] = sl_rng_f32(r);
            next[k] = sl_rng_f32(r);
        }
        for (int k = 0; k < 4; k++)
            a[k] = (uint8_t)sl_rng_below(r, 2);
        sl_vdn_push(v, &(struct sl_vdn_transition){.s = s,
                                                   .actions = a,
                                                   .n = 1 + (uint32_t)i % 4,
                                                   .reward = a[0],
                                                   .next = next,
                                                   .n_next = 4,
                                                   .done = i % 5 == 0});
    }
}

static void assert_same_acting(const struct sl_vdn *a, const struct sl_vdn *b)
{
    struct sl_qnet na, nb;
    const struct sl_qnet_shape *shape = &sl_vdn_options_of(a)->shape;
    assert_int_equal(sl_qnet_new(shape, 1, &na, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(shape, 2, &nb, NULL), SL_OK);
    sl_vdn_acting(a, &na);
    sl_vdn_acting(b, &nb);
    assert_memory_equal(na.values, nb.values, na.n_values * sizeof(float));
    sl_qnet_deinit(&na);
    sl_qnet_deinit(&nb);
}

static void own_rewards_are_learned_apart_from_the_teams(void **state)
{
    struct sl_vdn_options o = small_options();
    struct sl_vdn *v;
    struct sl_qnet q;
    double loss;
    o.gamma = 0;
    o.lr = 3e-3;
    assert_int_equal(sl_vdn_new(&o, &v, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(&o.shape, 1, &q, NULL), SL_OK);
    struct sl_rng r = rng_of(12);
    for (int i = 0; i < 2000; i++) { /* going costs 0.1 x, however wild the team's reward is */
        float s[12];
        uint8_t a[4];
        double own[4];
        for (int k = 0; k < 12; k++)
            s[k] = sl_rng_f32(&r);
        for (int k = 0; k < 4; k++) {
            a[k] = (uint8_t)sl_rng_below(&r, 2);
            own[k] = a[k] ? -0.1 * s[3 * k] : 0;
        }
        sl_vdn_push(v, &(struct sl_vdn_transition){.s = s,
                                                   .actions = a,
                                                   .n = 4,
                                                   .reward = 0,
                                                   .own = own,
                                                   .done = true});
        sl_vdn_update(v, &loss);
    }
    sl_vdn_acting(v, &q);
    for (int i = 0; i < 20; i++) {
        float s[3] = {(float)i / 20, 0.5f, 0.5f}, out[2];
        sl_qnet_forward(&q, s, 1, out);
        assert_float_equal(out[1] - out[0], -0.1 * i / 20, 0.02);
    }
    sl_qnet_deinit(&q);
    sl_vdn_free(v);
}

static void a_learner_is_a_function_of_its_seed_and_survives_its_file(void **state)
{
    const struct sl_vdn_options o = small_options();
    char path[] = "/tmp/t_fedmarl_XXXXXX";
    struct sl_vdn *a, *b;
    struct sl_qnet kept, got;
    struct sl_safetensors file;
    uint8_t *bytes;
    struct sl_err err;
    double loss;
    close(mkstemp(path));
    assert_int_equal(sl_vdn_new(&o, &a, NULL), SL_OK);
    assert_int_equal(sl_vdn_new(&o, &b, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(&o.shape, 77, &kept, NULL), SL_OK);
    assert_int_equal(sl_qnet_new(&o.shape, 78, &got, NULL), SL_OK);
    struct sl_rng r = rng_of(4), again = r;
    push_random(a, &r, 20);
    assert_false(sl_vdn_update(a, &loss));
    push_random(a, &r, 60); /* the ring goes round */
    for (int i = 0; i < 25; i++)
        assert_true(sl_vdn_update(a, &loss));
    const struct sl_vdn_extra extra = {"best", &kept}, into = {"best", &got};
    const struct sl_safetensors_note note = {"k", "v"};
    assert_int_equal(sl_vdn_save(a, &extra, 1, &note, 1, path, NULL), SL_OK);
    assert_int_equal(sl_vdn_load(b, &into, 1, path, &file, &bytes, &err), SL_OK);
    assert_string_equal(sl_safetensors_note(&file, "k"), "v");
    sl_safetensors_deinit(&file);
    free(bytes);
    assert_memory_equal(kept.values, got.values, kept.n_values * sizeof(float));
    for (int i = 0; i < 25; i++) {
        double la = 0, lb = 0;
        assert_true(sl_vdn_update(a, &la));
        assert_true(sl_vdn_update(b, &lb));
        assert_true(la == lb);
    }
    assert_same_acting(a, b);
    sl_vdn_free(b);
    assert_int_equal(sl_vdn_new(&o, &b, NULL), SL_OK);
    push_random(b, &again, 20);
    push_random(b, &again, 60);
    for (int i = 0; i < 50; i++)
        assert_true(sl_vdn_update(b, &loss));
    assert_same_acting(a, b);
    struct sl_vdn_options other = o;
    other.gamma = 0.5;
    sl_vdn_free(b);
    assert_int_equal(sl_vdn_new(&other, &b, NULL), SL_OK);
    assert_int_equal(sl_vdn_load(b, &into, 1, path, &file, &bytes, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "other options"));
    unlink(path);
    sl_vdn_free(a);
    sl_vdn_free(b);
    sl_qnet_deinit(&kept);
    sl_qnet_deinit(&got);
}

static void exploration_falls_on_a_line(void **state)
{
    const struct sl_vdn_options o = small_options();
    assert_true(sl_vdn_epsilon(&o, 0) == 1);
    assert_float_equal(sl_vdn_epsilon(&o, 50), 0.525, 1e-12);
    assert_true(sl_vdn_epsilon(&o, 100) == 0.05 && sl_vdn_epsilon(&o, 1000000) == 0.05);
}

static void options_out_of_range_are_refused(void **state)
{
    struct sl_vdn *v = NULL;
    struct sl_err err;
    struct sl_vdn_options o = small_options();
    o.warmup = 4;
    assert_int_equal(sl_vdn_new(&o, &v, &err), SL_E_RANGE);
    o = small_options();
    o.gamma = NAN;
    assert_int_equal(sl_vdn_new(&o, &v, &err), SL_E_RANGE);
    o = small_options();
    o.n_agents = SL_VDN_AGENTS_MAX + 1;
    assert_int_equal(sl_vdn_new(&o, &v, &err), SL_E_RANGE);
    o = small_options();
    o.shape.layers = 3;
    assert_int_equal(sl_vdn_new(&o, &v, &err), SL_E_RANGE);
    assert_null(v);
}

/* --- deciding --------------------------------------------------------------------------------- */

static void decide(const struct sl_fedmarl_policy *p, const struct sl_fedmarl_rails *rails,
                   const struct sl_client_facts *rows, size_t n, struct sl_fedmarl_decision *ret)
{
    float *scratch = calloc(sl_fedmarl_scratch(p, n), sizeof(float));
    sl_fedmarl_decide(p, rails, &round_facts, rows, n, scratch, ret);
    free(scratch);
}

/* F11 and F12: each row's decision goes with its client, to the bit of its Q values. */
static void shuffled_clients_get_the_same_decisions(void **state)
{
    const struct sl_fedmarl_rails rails = {
        .min_accepted = 5, .force_after = 9, .cap = 2, .cap_window = 10};
    struct sl_rng r = rng_of(6);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct sl_client_facts rows[N], shuffled[N];
        struct sl_fedmarl_decision plain[N], other[N];
        uint32_t order[N];
        struct sl_fedmarl_policy p = random_policy(seed, 1 + seed % 2);
        fill_rows(seed, rows, N);
        for (uint32_t i = 0; i < N; i++) {
            order[i] = i;
            rows[i].reported = sl_rng_below(&r, 4) > 0;
            rows[i].accepted = sl_rng_below(&r, 16);
            rows[i].idle_rounds = (uint32_t)sl_rng_below(&r, 12);
        }
        sl_rng_shuffle_u32(&r, order, N);
        for (uint32_t i = 0; i < N; i++)
            shuffled[i] = rows[order[i]];
        decide(&p, &rails, rows, N, plain);
        decide(&p, &rails, shuffled, N, other);
        for (uint32_t i = 0; i < N; i++) {
            const struct sl_fedmarl_decision *d = &plain[order[i]];
            assert_memory_equal(other[i].q, d->q, sizeof(d->q));
            assert_int_equal(other[i].accept, d->accept);
            assert_int_equal(other[i].why, d->why);
        }
        sl_fedmarl_policy_deinit(&p);
    }
}

/* A policy that says stop to everybody, by its last bias. */
static struct sl_fedmarl_policy stopping_policy(void)
{
    struct sl_fedmarl_policy p = random_policy(1, 1);
    p.net.values[p.net.n_values - 2] = 100;
    return p;
}

static void somebody_always_goes_on(void **state)
{
    const struct sl_fedmarl_rails rails = {SL_FEDMARL_RAILS_DEFAULTS};
    struct sl_fedmarl_policy p = stopping_policy();
    struct sl_client_facts rows[N];
    struct sl_fedmarl_decision d[N];
    fill_rows(1, rows, N);
    rows[2].reported = false;
    rows[3].probe_loss = NAN;
    decide(&p, &rails, rows, N, d);
    size_t accepted = N, best = 0;
    for (size_t i = 0; i < N; i++)
        if (d[i].accept) {
            assert_int_equal(accepted, N); /* only one */
            accepted = i;
        }
    for (size_t i = 0; i < N; i++)
        if (i != 2 && i != 3 && d[i].q[1] - d[i].q[0] > d[best].q[1] - d[best].q[0])
            best = i;
    assert_int_equal(accepted, best);
    assert_int_equal(d[best].why, SL_WHY_MINIMUM);
    assert_int_equal(d[2].why, SL_WHY_SILENT);
    assert_int_equal(d[3].why, SL_WHY_SILENT);
    for (size_t i = 0; i < N; i++)
        rows[i].reported = false;
    decide(&p, &rails, rows, N, d);
    for (size_t i = 0; i < N; i++)
        assert_true(!d[i].accept);
    sl_fedmarl_policy_deinit(&p);
}

static void rails_force_cap_and_fill_up(void **state)
{
    const struct sl_fedmarl_rails rails = {
        .min_accepted = 4, .force_after = 10, .cap = 2, .cap_window = 5};
    struct sl_fedmarl_policy p = stopping_policy();
    struct sl_client_facts rows[6];
    struct sl_fedmarl_decision d[6];
    fill_rows(2, rows, 6);
    rows[0].idle_rounds = 10;
    rows[1].idle_rounds = 9;
    rows[2].accepted = 0x3;  /* twice within 5 rounds */
    rows[3].accepted = 0x60; /* twice, before them */
    rows[4].accepted = 0x11;
    rows[5].accepted = 0x1f;
    decide(&p, &rails, rows, 6, d);
    assert_true(d[0].accept && d[0].why == SL_WHY_FORCED);
    assert_true(d[1].accept && d[1].why == SL_WHY_MINIMUM);
    assert_true(d[3].accept && d[3].why == SL_WHY_MINIMUM);
    int capped = d[2].accept + d[4].accept + d[5].accept; /* only to reach the minimum */
    assert_int_equal(capped, 1);
    sl_fedmarl_policy_deinit(&p);
}

static void ten_thousand_candidates_are_decided_in_one_call(void **state)
{
    enum { MANY = 10000 };
    const struct sl_fedmarl_rails rails = {SL_FEDMARL_RAILS_DEFAULTS};
    struct sl_fedmarl_policy p = random_policy(3, 1);
    struct sl_client_facts *rows = calloc(MANY, sizeof(*rows));
    struct sl_fedmarl_decision *d = calloc(MANY, sizeof(*d)), one;
    fill_rows(3, rows, MANY);
    decide(&p, &rails, rows, MANY, d);
    for (size_t i = 0; i < MANY; i += 997) {
        decide(&p, &rails, &rows[i], 1, &one);
        assert_memory_equal(one.q, d[i].q, sizeof(one.q));
    }
    free(rows);
    free(d);
    sl_fedmarl_policy_deinit(&p);
}

/* --- files ------------------------------------------------------------------------------------ */

static void saved_policy(char *path, uint8_t **ret, size_t *ret_n)
{
    struct sl_fedmarl_policy p = random_policy(8, 2), again;
    struct sl_err err;
    close(mkstemp(path));
    assert_int_equal(sl_fedmarl_policy_save(&p, NULL, 0, path, NULL), SL_OK);
    assert_int_equal(sl_fedmarl_policy_load(path, &again, &err), SL_OK);
    assert_memory_equal(p.net.values, again.net.values, p.net.n_values * sizeof(float));
    assert_memory_equal(&p.spec, &again.spec, sizeof(p.spec));
    sl_fedmarl_policy_deinit(&p);
    sl_fedmarl_policy_deinit(&again);
    assert_int_equal(sl_file_read(path, 1 << 20, ret, ret_n, NULL), SL_OK);
}

static void refused(const uint8_t *bytes, size_t n, const char *why)
{
    struct sl_fedmarl_policy p = {0};
    struct sl_err err = {.msg = ""};
    assert_int_equal(sl_fedmarl_policy_parse("p.safetensors", bytes, n, &p, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "p.safetensors"));
    assert_non_null(strstr(err.msg, why));
    assert_null(strchr(err.msg, '\n'));
    assert_null(p.net.values);
}

static void damaged_policy_files_are_refused_with_one_line(void **state)
{
    char path[] = "/tmp/t_fedmarl_XXXXXX";
    uint8_t *bytes;
    size_t n;
    struct sl_fedmarl_policy p;
    struct sl_err err;
    saved_policy(path, &bytes, &n);
    refused(bytes, 4, "cut");
    refused(bytes, n / 2, "beyond the file");
    for (size_t cut = 0; cut < n; cut += 97)
        assert_int_equal(sl_fedmarl_policy_parse("p", bytes, cut, &p, &err), SL_E_INPUT);
    const float nan = NAN;
    memcpy(bytes + n - 8, &nan, 4);
    refused(bytes, n, "not finite");
    free(bytes);
    unlink(path);
    assert_int_equal(sl_fedmarl_policy_load(path, &p, &err), SL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, path));
}

static void policies_of_another_shape_or_kind_are_refused(void **state)
{
    char path[] = "/tmp/t_fedmarl_XXXXXX";
    uint8_t *bytes;
    size_t n;
    struct sl_fedmarl_policy p = random_policy(8, 1);
    close(mkstemp(path));
    p.spec.n_upload = 5; /* says 13 inputs, takes 11 */
    assert_int_equal(sl_fedmarl_policy_save(&p, NULL, 0, path, NULL), SL_OK);
    assert_int_equal(sl_file_read(path, 1 << 20, &bytes, &n, NULL), SL_OK);
    refused(bytes, n, "takes 11 inputs, fedmarl.features says 13");
    free(bytes);
    assert_int_equal(sl_qnet_save(&p.net, NULL, 0, path, NULL), SL_OK);
    assert_int_equal(sl_file_read(path, 1 << 20, &bytes, &n, NULL), SL_OK);
    refused(bytes, n, "not a policy file");
    free(bytes);
    sl_fedmarl_policy_deinit(&p);
    const float w[6] = {0};
    const struct sl_safetensors_item one[] = {
        {.name = "fc1.weight", .n_dims = 2, .dim = {2, 3}, .values = w},
        {.name = "fc1.bias", .n_dims = 1, .dim = {2}, .values = w},
        {.name = "fc2.weight", .n_dims = 2, .dim = {2, 3}, .values = w},
        {.name = "fc2.bias", .n_dims = 1, .dim = {2}, .values = w}};
    assert_int_equal(sl_safetensors_encode(one, 4, &bytes, &n, NULL), SL_OK);
    refused(bytes, n, "\"fc2.weight\" has a shape that does not fit");
    free(bytes);
    assert_int_equal(sl_safetensors_encode(one, 2, &bytes, &n, NULL), SL_OK);
    refused(bytes, n, "\"fc2.weight\" is missing");
    free(bytes);
    unlink(path);
}

/* --- records ---------------------------------------------------------------------------------- */

struct seen {
    size_t n, done;
    double rewards;
};

static void see(void *ctx, const struct sl_vdn_transition *t)
{
    struct seen *s = ctx;
    s->n++;
    s->done += t->done;
    s->rewards += t->reward;
    for (uint32_t i = 0; i < t->n; i++) {
        assert_true(t->s[i * 2] == (float)i / 8);
        assert_int_equal(t->actions[i], i % 2);
    }
}

/* Two runs of 3 rounds, of 2, 3, 4 rows. */
static size_t make_log(uint8_t *ret)
{
    size_t n = 0;
    for (uint32_t run = 0; run < 2; run++)
        for (uint32_t round = 0; round < 3; round++)
            for (uint16_t row = 0; row < 2 + round; row++)
                sl_fedmarl_record_put(
                    &(struct sl_fedmarl_record){.run = run,
                                                .round = round,
                                                .client = 10 + row,
                                                .row = row,
                                                .rows = (uint16_t)(2 + round),
                                                .action = row % 2,
                                                .last = round == 2,
                                                .n_inputs = 2,
                                                .reward = 0.5 * round,
                                                .accuracy = 0.25,
                                                .q = {1, -1},
                                                .inputs = {(float)row / 8, -1}},
                    ret + SL_FEDMARL_RECORD_BYTES * n++);
    return n;
}

static void a_log_of_records_becomes_joint_steps(void **state)
{
    uint8_t log[32 * SL_FEDMARL_RECORD_BYTES];
    struct sl_fedmarl_record r;
    struct seen seen = {0};
    size_t n = make_log(log), steps;
    assert_int_equal(n, 18);
    assert_int_equal(sl_fedmarl_record_get(log + 4 * SL_FEDMARL_RECORD_BYTES, &r, NULL), SL_OK);
    assert_true(r.round == 1 && r.client == 12 && r.row == 2 && r.rows == 3 && r.q[0] == 1 &&
                r.inputs[0] == 0.25f && r.reward == 0.5 && !r.last);
    assert_int_equal(sl_fedmarl_log_read("log", log, n * SL_FEDMARL_RECORD_BYTES, 2, see, &seen,
                                         &steps, NULL),
                     SL_OK);
    assert_true(steps == 6 && seen.n == 6 && seen.done == 2 && seen.rewards == 3);
    /* a kill cuts a record: the round it belongs to is gone, and ends the step before it */
    seen = (struct seen){0};
    assert_int_equal(sl_fedmarl_log_read("log", log, n * SL_FEDMARL_RECORD_BYTES - 1, 2, see,
                                         &seen, &steps, NULL),
                     SL_OK);
    assert_true(steps == 5 && seen.done == 2);
}

static void damaged_logs_are_refused_by_record(void **state)
{
    uint8_t log[32 * SL_FEDMARL_RECORD_BYTES];
    struct seen seen = {0};
    struct sl_err err;
    size_t n = make_log(log), steps = 99;
    log[3 * SL_FEDMARL_RECORD_BYTES + 60] ^= 1;
    assert_int_equal(sl_fedmarl_log_read("log", log, n * SL_FEDMARL_RECORD_BYTES, 2, see, &seen,
                                         &steps, &err),
                     SL_E_INPUT);
    assert_string_equal(err.msg, "log: record 3: wrong checksum");
    n = make_log(log);
    assert_int_equal(sl_fedmarl_log_read("log", log + SL_FEDMARL_RECORD_BYTES,
                                         (n - 1) * SL_FEDMARL_RECORD_BYTES, 2, see, &seen, &steps,
                                         &err),
                     SL_E_INPUT);
    assert_non_null(strstr(err.msg, "record 0: rows of a round are not in order"));
    assert_int_equal(sl_fedmarl_log_read("log", log, n * SL_FEDMARL_RECORD_BYTES, 3, see, &seen,
                                         &steps, &err),
                     SL_E_INPUT);
    assert_int_equal(steps, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_scaled_and_clamped),
        cmocka_unit_test(a_new_client_gets_the_populations_times_and_what_is_not_finite_is_missing),
        cmocka_unit_test(times_keep_the_median_of_the_newest),
        cmocka_unit_test(latency_is_the_worked_example),
        cmocka_unit_test(cost_rises_with_the_accepted_set),
        cmocka_unit_test(both_utilities_rise_with_accuracy),
        cmocka_unit_test(utility_terms_telescope_and_costs_are_in_their_units),
        cmocka_unit_test(team_greedy_is_the_joint_optimum),
        cmocka_unit_test(every_chosen_action_gets_the_same_gradient),
        cmocka_unit_test(backward_is_the_derivative_of_forward),
        cmocka_unit_test(a_learner_is_a_function_of_its_seed_and_survives_its_file),
        cmocka_unit_test(own_rewards_are_learned_apart_from_the_teams),
        cmocka_unit_test(exploration_falls_on_a_line),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(shuffled_clients_get_the_same_decisions),
        cmocka_unit_test(somebody_always_goes_on),
        cmocka_unit_test(rails_force_cap_and_fill_up),
        cmocka_unit_test(ten_thousand_candidates_are_decided_in_one_call),
        cmocka_unit_test(damaged_policy_files_are_refused_with_one_line),
        cmocka_unit_test(policies_of_another_shape_or_kind_are_refused),
        cmocka_unit_test(a_log_of_records_becomes_joint_steps),
        cmocka_unit_test(damaged_logs_are_refused_by_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plan.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/rng.h"

#define UNUSED(x) (void)(x)
#define N(a) (sizeof(a) / sizeof((a)[0]))
#define DATA "data: {dataset: csv}\n"

static enum sl_code try_plan(const char *text, const char *set, struct sl_plan *ret,
                             struct sl_err *err)
{
    const struct sl_plan_override o = {set};
    return sl_plan_parse(text, strlen(text), "p", &o, set != NULL, ret, err);
}

static void parse(const char *text, const char *set, struct sl_plan *ret)
{
    struct sl_err err = {0};
    if (try_plan(text, set, ret, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

/* Reads the canonical text of *p again: the same text. */
static void check_round_trip(const struct sl_plan *p)
{
    struct sl_err err = {0};
    struct sl_plan again;
    char *a, *b;
    size_t n_a, n_b;
    assert_int_equal(sl_plan_canonical(p, &a, &n_a, &err), SL_OK);
    assert_int_equal(strlen(a), n_a);
    if (sl_plan_parse(a, n_a, "canonical", NULL, 0, &again, &err) != SL_OK)
        fail_msg("%s in\n%s", err.msg, a);
    assert_int_equal(sl_plan_canonical(&again, &b, &n_b, &err), SL_OK);
    assert_string_equal(a, b);
    assert_int_equal(again.model.layers.n_layers, p->model.layers.n_layers);
    for (size_t i = 0; i < p->model.layers.n_layers; i++)
        assert_memory_equal(&again.model.layers.layers[i], &p->model.layers.layers[i],
                            sizeof(struct sl_layer_spec));
    /* and the same plan, but for where its layers are kept */
    struct sl_plan x = *p, y = again;
    x.model.layers = y.model.layers = (struct sl_model_spec){0};
    assert_memory_equal(&x.run, &y.run, sizeof(x.run));
    assert_memory_equal(&x.train, &y.train, sizeof(x.train));
    assert_memory_equal(&x.sim, &y.sim, sizeof(x.sim));
    assert_int_equal(x.data.partition.kind, y.data.partition.kind);
    free(a);
    free(b);
    sl_plan_deinit(&again);
}

static void a_short_plan_has_defaults(void **state)
{
    UNUSED(state);
    struct sl_plan p, d;
    parse(DATA, NULL, &p);
    assert_string_equal(p.run.name, "run");
    assert_int_equal(p.run.seed, 1);
    assert_int_equal(p.run.eval_every, 1);
    assert_int_equal(p.run.max_retries, 2);
    assert_string_equal(p.data.dataset, "csv");
    assert_int_equal(p.data.partition.clients, 10);
    assert_int_equal(p.data.partition.min_size, 10);
    assert_int_equal(p.train.epochs, 1);
    assert_int_equal(p.train.batch_size, 32);
    assert_int_equal(p.train.local_steps, -1);
    assert_int_equal(p.train.optimizer, SL_OPT_SGD);
    assert_true(p.train.lr == 0.05 && p.train.beta1 == 0.9 && p.train.beta2 == 0.999);
    assert_string_equal(p.strategy.name, "fedavg");
    assert_string_equal(p.selection.policy, "random");
    assert_true(p.selection.over_select == 1 && p.selection.deadline_s == 600);
    assert_true(p.selection.quorum == 1 && p.aggregation.max_abs == 8);
    assert_int_equal(p.aggregation.max_weight, 1000000);
    assert_int_equal(p.aggregation.fraction_bits, 32);
    sl_plan_default(&d);
    strcpy(d.data.dataset, "csv");
    assert_memory_equal(&p, &d, sizeof(p));
    check_round_trip(&p);
    sl_plan_deinit(&p);
    sl_plan_deinit(&p);
    sl_plan_deinit(NULL);
}

static void every_key_is_read(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse("run: {name: demo, seed: 18446744073709551615, rounds: 7, target_accuracy: 0.9,\n"
          "  eval_every: 2, min_clients: 3, max_retries: 4, reproducible: strict}\n"
          "data: {dataset: idx, path: d, limit: 100, test_limit: 50,\n"
          "  partition: {kind: dirichlet, alpha: 0.1, clients: 20, min_size: 2}}\n"
          "model: {name: lenet, head: dense, init: {rule: splitmix, seed: 9, gain: 1.5}}\n"
          "train: {epochs: 2, batch_size: 0, local_steps: 5, optimizer: adam, lr: 1.0e-3,\n"
          "  momentum: 0.5, weight_decay: 1e-4, betas: [0.8, 0.95], eps: 1e-7,\n"
          "  lr_schedule: {kind: step, every: 3, factor: 0.1}, order: bench}\n"
          "strategy: {name: fedavg}\n"
          "selection: {policy: file, path: s, clients_per_round: 5, over_select: 1.5,\n"
          "  deadline_s: 30, quorum: 0.75, probe_epochs: 0}\n"
          "aggregation: {weighting: uniform, max_abs: 4, max_weight: 77, fraction_bits: 20,\n"
          "  clip_norm: 2.5}\n"
          "accelerator: {matmul: fp32, softmax: exact, memory: none}\n"
          "uplink: {encoding: fp32}\n"
          "downlink: {encoding: fp32}\n"
          "evaluation: {where: both, holdout: 0.25}\n"
          "calibration: {at_end: false, every: 5, ridge: 0.00001, balanced: true, max_share: 0.5}\n"
          "telemetry: {gate: none}\n"
          "sim:\n"
          "  device: {kind: lognormal, samples_per_s: 300, sigma: 0.7}\n"
          "  network: {kind: trace, path: n.csv}\n"
          "  dropout: 0.1\n"
          "  faults: {seed: 5, drop: 0.01, delay: 0.2, delay_ms: 30, duplicate: 0.02,\n"
          "    reorder: 0.03, disconnect: 0.04, coordinator_kills: 2, client_kills: 3,\n"
          "    power_loss: true}\n",
          NULL, &p);
    assert_true(p.run.seed == UINT64_MAX);
    assert_int_equal(p.run.reproducible, SL_REPRODUCIBLE_STRICT);
    assert_string_equal(p.data.path, "d");
    assert_true(p.data.limit == 100 && p.data.test_limit == 50);
    assert_int_equal(p.data.partition.min_size, 2);
    assert_int_equal(p.model.init, SL_INIT_SPLITMIX);
    assert_true(p.model.init_seed == 9 && p.model.init_gain == 1.5);
    assert_true(p.train.local_steps == 5 && p.train.lr == 1e-3 && p.train.eps == 1e-7);
    assert_true(p.train.beta1 == 0.8 && p.train.beta2 == 0.95);
    assert_int_equal(p.train.schedule.step_every, 3);
    assert_true(p.train.schedule.factor == 0.1);
    assert_int_equal(p.train.order, SL_ORDER_BENCH);
    assert_string_equal(p.selection.path, "s");
    assert_int_equal(p.aggregation.weighting, SL_WEIGHT_UNIFORM);
    assert_true(p.aggregation.clip_norm == 2.5);
    assert_int_equal(p.evaluation.where, SL_EVAL_BOTH);
    assert_string_equal(p.sim.world.device, "lognormal");
    assert_string_equal(p.sim.world.network_trace, "n.csv");
    assert_true(p.sim.faults.power_loss && p.sim.faults.client_kills == 3);
    check_round_trip(&p);
    sl_plan_deinit(&p);
}

static void a_policy_that_decides_has_its_own_keys(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA "selection: {policy: fedmarl, probe_epochs: 1, policy_file: q.safetensors,\n"
               "  probe_quantile: 0.8, probe_slack: 3, min_accepted: 2, force_after: 9, cap: 4,\n"
               "  cap_window: 8, w1: 5, w2: 0.5, w3: 0.25}\n",
          NULL, &p);
    assert_string_equal(p.selection.policy_file, "q.safetensors");
    assert_true(p.selection.probe_quantile == 0.8 && p.selection.probe_slack == 3);
    assert_true(p.selection.min_accepted == 2 && p.selection.force_after == 9);
    assert_true(p.selection.cap == 4 && p.selection.cap_window == 8);
    assert_true(p.selection.w1 == 5 && p.selection.w2 == 0.5 && p.selection.w3 == 0.25);
    assert_true(sl_plan_decides(&p));
    check_round_trip(&p);
    sl_plan_deinit(&p);
    parse(DATA "selection: {policy: power-of-choice, probe_epochs: 1, accept: 2.5, candidates: 7}\n",
          NULL, &p);
    assert_true(p.selection.accept == 2.5 && p.selection.candidates == 7);
    check_round_trip(&p);
    sl_plan_deinit(&p);
    parse(DATA "selection: {policy: all, probe_epochs: 1}\n", NULL, &p);
    assert_false(sl_plan_decides(&p));
    check_round_trip(&p);
    sl_plan_deinit(&p);
}

/* Beside what bad_lines has: refusals for another section's sake. */
static void probes_are_refused_where_they_have_no_meaning(void **state)
{
    UNUSED(state);
    static const struct {
        const char *line, *msg;
    } cases[] = {
        {"strategy: {name: fedbuff}\nselection: {probe_epochs: 1}",
         "p:3: selection.probe_epochs: 1 is out of range (0 with fedbuff, which has no rounds)"},
        {"train: {local_steps: 3}\nselection: {probe_epochs: 1}",
         "p:3: selection.probe_epochs: 1 is out of range (0 with train.local_steps)"},
        {"strategy: {name: krum}\nselection: {policy: oort, probe_epochs: 1}",
         "p:2: strategy.name: krum is not available with oort (it needs a number of updates)"},
    };
    for (size_t i = 0; i < N(cases); i++) {
        char text[512];
        struct sl_plan p;
        struct sl_err err = {0};
        snprintf(text, sizeof(text), DATA "%s\n", cases[i].line);
        if (try_plan(text, NULL, &p, &err) == SL_OK)
            fail_msg("accepted: %s", cases[i].line);
        assert_string_equal(err.msg, cases[i].msg);
    }
}

static void layers_have_long_and_short_forms(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA "model:\n  layers:\n"
               "    - {conv2d: {out: 32, kernel: 5, pad: 2, bias: false, name: first}}\n"
               "    - relu\n"
               "    - {maxpool: 2}\n"
               "    - {maxpool: {kernel: 3, stride: 1, pad: 1}}\n"
               "    - {residual: [relu, {dense: 4}]}\n"
               "    - residual:\n"
               "        body: [{groupnorm: 8}, {residual: {body: [relu], shortcut: [gelu_erf]}}]\n"
               "        shortcut: [{dropout: 0.25}, {mhsa: {heads: 2, causal: true}}]\n"
               "    - avgpool\n"
               "    - batchnorm:\n"
               "    - {layernorm: {eps: 1e-6}}\n"
               "    - gelu_tanh\n"
               "    - mean_tokens\n"
               "    - flatten\n"
               "    - {dense: {out: 10}}\n",
          NULL, &p);
    const struct sl_layer_spec *l = p.model.layers.layers;
    assert_string_equal(p.model.name, "");
    assert_int_equal(p.model.layers.n_layers, 21);
    assert_int_equal(l[0].kind, SL_LAYER_CONV2D);
    assert_true(l[0].out == 32 && l[0].kernel == 5 && l[0].stride == 1 && l[0].pad == 2);
    assert_false(l[0].bias);
    assert_string_equal(l[0].name, "first");
    assert_true(l[2].kernel == 2 && l[2].stride == 2 && l[3].stride == 1 && l[3].pad == 1);
    assert_true(l[4].kind == SL_LAYER_RESIDUAL && l[4].n_body == 2 && l[4].n_shortcut == 0);
    assert_true(l[7].kind == SL_LAYER_RESIDUAL && l[7].n_body == 4 && l[7].n_shortcut == 2);
    assert_true(l[9].kind == SL_LAYER_RESIDUAL && l[9].n_body == 1 && l[9].n_shortcut == 1);
    assert_true(l[12].rate == 0.25f && l[13].heads == 2 && l[13].causal);
    assert_true(l[14].kind == SL_LAYER_AVGPOOL && l[14].kernel == 0);
    assert_true(l[16].eps == 1e-6f);
    assert_true(l[20].out == 10 && l[20].bias && l[20].name[0] == '\0');
    check_round_trip(&p);
    sl_plan_deinit(&p);
}

static void init_and_steps_have_short_forms(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA "model: {name: cnn, init: splitmix}\ntrain: {local_steps: 0, epochs: 0}\n", NULL,
          &p);
    assert_int_equal(p.model.init, SL_INIT_SPLITMIX);
    assert_true(p.model.init_seed == 1 && p.model.init_gain == 1.0);
    assert_int_equal(p.train.local_steps, 0);
    check_round_trip(&p);
    sl_plan_deinit(&p);
    parse(DATA "model: {init: {file: a.npz}}\ntrain: {local_steps: {file: s.txt}}\n", NULL, &p);
    assert_int_equal(p.model.init, SL_INIT_FILE);
    assert_string_equal(p.model.init_path, "a.npz");
    assert_string_equal(p.train.steps_path, "s.txt");
    assert_int_equal(p.train.local_steps, -1);
    check_round_trip(&p);
    sl_plan_deinit(&p);
    parse(DATA "model: {init: {rule: file, path: b.npz}}\n", NULL, &p);
    assert_string_equal(p.model.init_path, "b.npz");
    sl_plan_deinit(&p);
}

/* --- what is refused --------------------------------------------------------------------------- */

#define KINDS                                                                                \
    "(dense, conv2d, maxpool, avgpool, relu, gelu_erf, gelu_tanh, flatten, dropout, "        \
    "layernorm, groupnorm, batchnorm, mhsa, mean_tokens, residual, "     \
    "ternary_dense, ternary_conv2d)"
#define SECTIONS                                                                             \
    "(allowed here: run, data, model, train, strategy, selection, aggregation, "             \
    "accelerator, uplink, downlink, evaluation, calibration, telemetry, sim)"

/* the second line of a plan, and what is said about it */
static const struct {
    const char *line, *msg;
} bad_lines[] = {
    {"foo: 1", "p:2: foo: unknown key " SECTIONS},
    {"train.lr: 1", "p:2: train.lr: unknown key " SECTIONS},
    {"\"\": 1", "p:2: : unknown key " SECTIONS},
    {"train: {rate: 1}",
     "p:2: train.rate: unknown key (allowed here: epochs, batch_size, local_steps, optimizer, "
     "lr, momentum, weight_decay, betas, eps, lr_schedule, order)"},
    {"strategy: {mu: 1}", "p:2: strategy.mu: is no key of strategy.name: fedavg"},
    {"accelerator: {precision: adaptive}",
     "p:2: accelerator.precision: is no key of accelerator.matmul: fp32"},
    {"train: {lr: {x: 1}}", "p:2: train.lr: is a map, must be a number"},
    {"train: 3", "p:2: train: must be a map"},
    {"train: [1]", "p:2: train: must be a map"},
    {"sim: {faults: yes}", "p:2: sim.faults: must be a map"},
    {"train: {lr: 0}", "p:2: train.lr: 0 is out of range (1e-09 to 1000)"},
    {"train: {lr: -0.1}", "p:2: train.lr: -0.1 is out of range (1e-09 to 1000)"},
    {"train: {lr: 1001}", "p:2: train.lr: 1001 is out of range (1e-09 to 1000)"},
    {"train: {lr: 1e999}", "p:2: train.lr: 1e999 is out of range (1e-09 to 1000)"},
    {"train: {lr: .nan}", "p:2: train.lr: .nan must be a number"},
    {"train: {lr: nan}", "p:2: train.lr: nan must be a number"},
    {"train: {lr: .inf}", "p:2: train.lr: .inf must be a number"},
    {"train: {lr: inf}", "p:2: train.lr: inf must be a number"},
    {"train: {lr: 0x1p-3}", "p:2: train.lr: 0x1p-3: wrong unit (this number has none)"},
    {"train: {lr: \"0.1\"}", "p:2: train.lr: 0.1 must be a number"},
    {"train: {lr: }", "p:2: train.lr: has no value, must be a number"},
    {"train: {lr: [0.1]}", "p:2: train.lr: is a list, must be a number"},
    {"train: {lr: 5s}", "p:2: train.lr: 5s: wrong unit (this number has none)"},
    {"train: {momentum: 1}", "p:2: train.momentum: 1 is out of range (0 to below 1)"},
    {"train: {epochs: 1.5}",
     "p:2: train.epochs: 1.5 must be a whole number"},
    {"train: {epochs: 2.0}", "p:2: train.epochs: 2.0 must be a whole number"},
    {"train: {epochs: 010}", "p:2: train.epochs: 010 must be a whole number"},
    {"train: {epochs: 1_000}", "p:2: train.epochs: 1_000: wrong unit (this number has none)"},
    {"train: {epochs: ten}", "p:2: train.epochs: ten must be a whole number"},
    {"train: {epochs: true}", "p:2: train.epochs: true must be a whole number"},
    {"train: {epochs: -1}", "p:2: train.epochs: -1 is out of range (0 to 100000)"},
    {"train: {epochs: 0}",
     "p:2: train.epochs: 0 is out of range (1 to 100000 when there are no train.local_steps)"},
    {"train: {batch_size: 18446744073709551616}",
     "p:2: train.batch_size: 18446744073709551616 is out of range (0 to 1000000)"},
    {"train: {local_steps: -1}",
     "p:2: train.local_steps: -1 is out of range (0 to 1000000000)"},
    {"train: {local_steps: {path: x}}",
     "p:2: train.local_steps.path: unknown key (allowed here: file)"},
    {"train: {local_steps: {file: \"\"}}",
     "p:2: train.local_steps.file: has no value, must be text"},
    {"train: {betas: 0.9}", "p:2: train.betas: must be a list of two numbers"},
    {"train: {betas: [0.9]}", "p:2: train.betas: must be a list of two numbers"},
    {"train: {betas: [0.9, 1]}", "p:2: train.betas: 1 is out of range (0 to below 1)"},
    {"train: {betas: [0.9, x]}", "p:2: train.betas: x must be a number"},
    {"train: {optimizer: lion}", "p:2: train.optimizer: lion is not available (sgd, adam)"},
    {"train: {lr_schedule: cosine}", "p:2: train.lr_schedule: must be a map"},
    {"train: {lr_schedule: {kind: linear}}",
     "p:2: train.lr_schedule.kind: linear is not available (constant, step, cosine)"},
    {"train: {lr_schedule: {every: 2}}",
     "p:2: train.lr_schedule.every: is no key of train.lr_schedule.kind: constant"},
    {"train: {lr_schedule: {kind: cosine, factor: 0.5}}",
     "p:2: train.lr_schedule.factor: is no key of train.lr_schedule.kind: cosine"},
    {"train: {lr_schedule: {kind: step, every: 0}}",
     "p:2: train.lr_schedule.every: 0 is out of range (1 to 1000000)"},
    {"train: {lr_schedule: {kind: cosine, min_lr: 1}}",
     "p:2: train.lr_schedule.min_lr: 1 is out of range (0 to 0.05, which is train.lr)"},
    {"run: {rounds: 0}", "p:2: run.rounds: 0 is out of range (1 to 1000000)"},
    {"run: {rounds: 1000001}", "p:2: run.rounds: 1000001 is out of range (1 to 1000000)"},
    {"run: {seed: -1}", "p:2: run.seed: -1 is out of range (0 to 18446744073709551615)"},
    {"run: {name: \"\"}", "p:2: run.name: has no value, must be text"},
    {"run: {name: [a]}", "p:2: run.name: is a list, must be text"},
    {"run: {name: "
     "0123456789012345678901234567890123456789012345678901234567890123}",
     "p:2: run.name: text of 64 bytes (at most 63)"},
    {"run: {target_accuracy: 1.1}",
     "p:2: run.target_accuracy: 1.1 is out of range (0 to 1)"},
    {"run: {target_accuracy: 90%}",
     "p:2: run.target_accuracy: 90%: wrong unit (this number has none)"},
    {"run: {min_clients: 11}",
     "p:2: run.min_clients: 11 is out of range (0 to 10, which is data.partition.clients)"},
    {"run: {reproducible: maybe}",
     "p:2: run.reproducible: maybe is not available (warn, strict)"},
    {"strategy: {name: fedsgd}",
     "p:2: strategy.name: fedsgd is not available (fedavg, fedavgm, fedprox, fednova, scaffold, "
     "fedadam, fedyogi, fedadagrad, median, trimmed-mean, krum, multi-krum, geometric-median, fedbuff)"},
    {"selection: {policy: best}",
     "p:2: selection.policy: best is not available (random, all, file, drop-slowest, "
     "highest-loss, lowest-loss, power-of-choice, oort, fedmarl)"},
    {"selection: {policy: oort}", "p: selection.probe_epochs: 0 is out of range (1 with oort)"},
    {"selection: {policy: fedmarl, probe_epochs: 1}",
     "p: selection.policy_file: is missing (selection.policy is fedmarl)"},
    {"selection: {policy: oort, probe_epochs: 1, accept: 11}",
     "p:2: selection.accept: 11 is out of range (0 to 10, the clients of a round)"},
    {"selection: {policy: fedmarl, probe_epochs: 1, policy_file: f, min_accepted: 11}",
     "p:2: selection.min_accepted: 11 is out of range (1 to 10, the clients of a round)"},
    {"selection: {policy: fedmarl, probe_epochs: 1, policy_file: f, cap_window: 65}",
     "p:2: selection.cap_window: 65 is out of range (1 to 64)"},
    {"selection: {policy: oort, probe_epochs: 1, cap: 3}",
     "p:2: selection.cap: is no key of selection.policy: oort"},
    {"selection: {probe_epochs: 1, over_select: 1.5}",
     "p:2: selection.over_select: 1.5 is out of range (1 with probes)"},
    {"selection: {policy: oort, probe_epochs: 1, probe_quantile: 0}",
     "p:2: selection.probe_quantile: 0 is out of range (above 0 to 1)"},
    {"selection: {path: x}", "p:2: selection.path: is no key of selection.policy: random"},
    {"selection: {policy: file}", "p: selection.path: is missing (selection.policy is file)"},
    {"selection: {clients_per_round: 11}",
     "p:2: selection.clients_per_round: 11 is out of range (0 to 10, which is "
     "data.partition.clients)"},
    {"selection: {over_select: 0.9}",
     "p:2: selection.over_select: 0.9 is out of range (1 to 4)"},
    {"selection: {quorum: 0}", "p:2: selection.quorum: 0 is out of range (above 0 to 1)"},
    {"selection: {deadline_s: 0}",
     "p:2: selection.deadline_s: 0 is out of range (above 0 to 1000000)"},
    {"selection: {deadline_s: 5s}",
     "p:2: selection.deadline_s: 5s: wrong unit (a number of seconds is wanted, without a unit)"},
    {"selection: {deadline_s: 10 min}",
     "p:2: selection.deadline_s: 10 min: wrong unit (a number of seconds is wanted, without a "
     "unit)"},
    {"selection: {probe_epochs: 2}", "p:2: selection.probe_epochs: 2 is out of range (0 to 1)"},
    {"aggregation: {fraction_bits: 41}",
     "p:2: aggregation.fraction_bits: 41 is out of range (16 to 40)"},
    {"aggregation: {max_abs: 0}",
     "p:2: aggregation.max_abs: 0 is out of range (above 0 to 1000000)"},
    {"model: {layers: [{ternary_dense: {out: 3, form: signs}}]}",
     "p:2: model.layers[0].ternary_dense.form: signs is not available (learned, plain, binary)"},
    {"aggregation: {max_weight: 0}",
     "p:2: aggregation.max_weight: 0 is out of range (1 to 1000000000000)"},
    {"accelerator: {matmul: tpu}",
     "p:2: accelerator.matmul: tpu is not available (fp32, fast, tr, rtn)"},
    {"accelerator: {matmul: fast, precision: 9}",
     "p:2: accelerator.precision: 9 is not available (adaptive, low, high, 1, 2, 3, 4, 5, 6, 7, 8)"},
    {"accelerator: {matmul: fast, rows: 65537}",
     "p:2: accelerator.rows: 65537 is out of range (0 to 65536)"},
    {"accelerator: {matmul: tr, e_bit: -1}",
     "p:2: accelerator.e_bit: -1 is out of range (0 to 1000000000)"},
    {"accelerator: {matmul: tr, e_pass: 1}",
     "p:2: accelerator.e_pass: is no key of accelerator.matmul: tr"},
    {"accelerator: {matmul: fast, e_pair: 1}",
     "p:2: accelerator.e_pair: is no key of accelerator.matmul: fast"},
    {"accelerator: {matmul: rtn, rows: 8}",
     "p:2: accelerator.rows: is no key of accelerator.matmul: rtn"},
    {"accelerator: {matmul: rtn, lanes: 0}",
     "p:2: accelerator.lanes: 0 is out of range (1 to 65536)"},
    {"accelerator: {matmul: rtn, word_bits: 4097}",
     "p:2: accelerator.word_bits: 4097 is out of range (1 to 4096)"},
    {"accelerator: {matmul: rtn, mhz: -5}",
     "p:2: accelerator.mhz: -5 is out of range (0 to 1000000)"},
    {"accelerator: {softmax: hyft16}",
     "p:2: accelerator.softmax: hyft16 is not available (exact)"},
    {"accelerator: {memory: reversible}",
     "p:2: accelerator.memory: reversible is not available (none)"},
    {"uplink: {encoding: int8}", "p:2: uplink.encoding: int8 is not available (fp32, bf16, bfp, ternary)"},
    {"downlink: {encoding: int8}", "p:2: downlink.encoding: int8 is not available (fp32)"},
    {"evaluation: {holdout: 0.95}",
     "p:2: evaluation.holdout: 0.95 is out of range (0 to 0.9)"},
    {"calibration: {ridge: 2}", "p:2: calibration.ridge: 2 is out of range (0 to 1)"},
    {"calibration: {max_share: 0}",
     "p:2: calibration.max_share: 0 is out of range (above 0 to 1)"},
    {"telemetry: {gate: tmc}", "p:2: telemetry.gate: tmc is not available (none)"},
    {"model: {name: vit}",
     "p:2: model.name: vit is not available (tiny, mlp, lenet, cnn, pfl-cnn, resnet8)"},
    {"model: {head: cube}", "p:2: model.head: cube is not available (dense, sphere)"},
    {"model: {loss: squared}", "p:2: model.loss: is no key of model.head: dense"},
    {"model: {head: sphere, loss: squared, temperature: 5}",
     "p:2: model.temperature: is no key of model.loss: squared"},
    {"model: {head: sphere, loss: cross-entropy, temperature: 0}", 
     "p:2: model.temperature: 0 is out of range (above 0 to 1000)"},
    {"model: {layers: [flatten, {dense: 10}], width: 64}", 
     "p:2: model.width: only with model.name (the layers say it themselves)"},
    {"model: {name: cnn, layers: [flatten]}",
     "p:2: model.layers: only one of model.name and model.layers"},
    {"model: {init: zero}", "p:2: model.init: zero is not available (uniform, splitmix, file)"},
    {"model: {init: file}", "p: model.init.path: is missing (model.init.rule is file)"},
    {"model: {init: {seed: 1}}", "p:2: model.init.seed: is no key of model.init.rule: uniform"},
    {"model: {init: {rule: splitmix, file: x}}",
     "p:2: model.init.file: is no key of model.init.rule: splitmix"},
    {"model: {init: {rule: splitmix, gain: 0}}",
     "p:2: model.init.gain: 0 is out of range (above 0 to 1000)"},
    {"model: {layers: relu}", "p:2: model.layers: must be a list of layers"},
    {"model: {layers: []}", "p:2: model.layers: must be a list of layers"},
    {"model: {layers: [tanh]}", "p:2: model.layers[0]: tanh is not available " KINDS},
    {"model: {layers: [relu, {lstm: 3}]}", "p:2: model.layers[1]: lstm is not available " KINDS},
    {"model: {layers: [dense]}", "p:2: model.layers[0].dense.out: is missing"},
    {"model: {layers: [{conv2d: {out: 3}}]}",
     "p:2: model.layers[0].conv2d.kernel: is missing"},
    {"model: {layers: [{conv2d: 3}]}", "p:2: model.layers[0].conv2d: must be a map"},
    {"model: {layers: [{relu: 3}]}", "p:2: model.layers[0].relu: must be a map"},
    {"model: {layers: [{relu: {a: 3}}]}",
     "p:2: model.layers[0].relu.a: unknown key (no key is allowed here)"},
    {"model: {layers: [{dense: 0}]}",
     "p:2: model.layers[0].dense.out: 0 is out of range (1 to 1000000)"},
    {"model: {layers: [{dense: ten}]}",
     "p:2: model.layers[0].dense.out: ten must be a whole number"},
    {"model: {layers: [{dense: {out: 3, units: 3}}]}",
     "p:2: model.layers[0].dense.units: unknown key (allowed here: out, bias, name)"},
    {"model: {layers: [{dense: {out: 3, bias: 1}}]}",
     "p:2: model.layers[0].dense.bias: 1 must be true or false"},
    {"model: {layers: [{dense: 3, relu: }]}",
     "p:2: model.layers[0]: must be one layer: a word, or {kind: {key: value}}"},
    {"model: {layers: [[relu]]}",
     "p:2: model.layers[0]: must be one layer: a word, or {kind: {key: value}}"},
    {"model: {layers: [{dropout: 1}]}",
     "p:2: model.layers[0].dropout.rate: 1 is out of range (0 to below 1)"},
    {"model: {layers: [{dropout: 0.99999999999}]}",
     "p:2: model.layers[0].dropout.rate: 0.99999999999 is out of range (0 to below 1)"},
    {"model: {layers: [residual]}", "p:2: model.layers[0].residual: must be a list of layers, "
                                    "or {body: [...], shortcut: [...]}"},
    {"model: {layers: [{residual: {body: [relu], skip: [relu]}}]}",
     "p:2: model.layers[0].residual.skip: unknown key (allowed here: body, shortcut)"},
    {"model: {layers: [{residual: {body: [relu, x]}}]}",
     "p:2: model.layers[0].residual.body[1]: x is not available " KINDS},
    {"model: {layers: [{residual: {body: [relu], shortcut: relu}}]}",
     "p:2: model.layers[0].residual.shortcut: must be a list of layers"},
    {"model: {layers: [{residual: [{residual: [{residual: [{residual: [relu]}]}]}]}]}",
     "p:2: model.layers[0].residual.body[0].residual.body[0].residual.body[0].residual: "
     "residuals nested more than 3 deep"},
    {"sim: {device: {kind: pareto}}",
     "p:2: sim.device.kind: pareto is not available (constant, lognormal, trace)"},
    {"sim: {device: {sigma: 1}}", "p:2: sim.device.sigma: is no key of sim.device.kind: constant"},
    {"sim: {device: {kind: trace}}", "p: sim.device.path: is missing (sim.device.kind is trace)"},
    {"sim: {network: {kind: trace}}",
     "p: sim.network.path: is missing (sim.network.kind is trace)"},
    {"sim: {network: {rtt_ms: 20ms}}", "p:2: sim.network.rtt_ms: 20ms: wrong unit (a number of "
                                       "milliseconds is wanted, without a unit)"},
    {"sim: {dropout: 1}", "p:2: sim.dropout: 1 is out of range (0 to below 1)"},
    {"sim: {faults: {power_loss: yes}}",
     "p:2: sim.faults.power_loss: yes must be true or false"},
};

static void bad_keys_and_values_are_refused_with_what_is_allowed(void **state)
{
    UNUSED(state);
    assert_true(N(bad_lines) >= 60);
    for (size_t i = 0; i < N(bad_lines); i++) {
        char text[512];
        struct sl_plan p = {.run.rounds = 77};
        struct sl_err err = {0};
        snprintf(text, sizeof(text), DATA "%s\n", bad_lines[i].line);
        if (try_plan(text, NULL, &p, &err) == SL_OK)
            fail_msg("accepted: %s", bad_lines[i].line);
        assert_string_equal(err.msg, bad_lines[i].msg);
        assert_int_equal(sl_code_exit_status(err.code), 2);
        assert_int_equal(p.run.rounds, 77);
    }
}

static void bad_data_is_refused(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *msg;
    } bad[] = {
        {"", "p: data.dataset: is missing"},
        {"run: {rounds: 1}\n", "p: data.dataset: is missing"},
        {"data: {dataset: mnist}\n", "p:1: data.dataset: mnist is not available (fashion-mnist, "
                                     "idx, cifar10, csv, npz, synthetic)"},
        {"data: {dataset: csv, limit: -3}\n",
         "p:1: data.limit: -3 is out of range (0 to 1000000000000)"},
        {"data: {dataset: csv, partition: {kind: iid, alpha: 1}}\n",
         "p:1: data.partition.alpha: is no key of data.partition.kind: iid"},
        {"data: {dataset: csv, partition: {kind: dirichlet, alpha: 0}}\n",
         "p:1: data.partition.alpha: 0 is out of range (above 0 to 1000000)"},
        {"data: {dataset: csv, partition: {kind: shards, share: 0.5}}\n",
         "p:1: data.partition.share: is no key of data.partition.kind: shards"},
        {"data: {dataset: csv, partition: {kind: file}}\n",
         "p: data.partition.path: is missing (data.partition.kind is file)"},
        {"data: {dataset: csv, partition: {clients: 100001}}\n",
         "p:1: data.partition.clients: 100001 is out of range (1 to 100000)"},
        {"data: {dataset: csv, partition: {kind: zipf}}\n",
         "p:1: data.partition.kind: zipf is not available (iid, dirichlet, shards, majority, "
         "quantity, file)"},
        {"data: {dataset: csv}\ndata: {dataset: idx}\n",
         "p:2: data: given twice (first in line 1)"},
    };
    for (size_t i = 0; i < N(bad); i++) {
        struct sl_plan p;
        struct sl_err err = {0};
        assert_int_not_equal(try_plan(bad[i].text, NULL, &p, &err), SL_OK);
        assert_string_equal(err.msg, bad[i].msg);
    }
}

static void too_many_layers_are_refused(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    struct sl_err err = {0};
    char text[4096] = DATA "model: {layers: [relu";
    for (int i = 1; i < SL_LAYERS_MAX; i++)
        strcat(text, ", relu");
    size_t n = strlen(text);
    strcat(text, "]}\n");
    parse(text, NULL, &p);
    assert_int_equal(p.model.layers.n_layers, SL_LAYERS_MAX);
    check_round_trip(&p);
    sl_plan_deinit(&p);
    strcpy(text + n, ", relu]}\n");
    assert_int_equal(try_plan(text, NULL, &p, &err), SL_E_LIMIT);
    assert_string_equal(err.msg, "p:2: model.layers[256]: more than 256 layers");
}

/* --- --set ------------------------------------------------------------------------------------- */

static void set_changes_a_key_and_is_checked_alike(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    struct sl_err err = {0};
    const struct sl_plan_override two[] = {{"train.lr=0.5"}, {"train.lr=0.25"}};
    assert_int_equal(sl_plan_parse(DATA, strlen(DATA), "p", two, 2, &p, &err), SL_OK);
    assert_true(p.train.lr == 0.25);
    sl_plan_deinit(&p);
    static const struct {
        const char *set, *msg;
    } bad[] = {
        {"train.lr=0", "--set train.lr: 0 is out of range (1e-09 to 1000)"},
        {"selection.deadline_s=5s", "--set selection.deadline_s: 5s: wrong unit (a number of "
                                    "seconds is wanted, without a unit)"},
        {"foo=1", "--set foo: unknown key " SECTIONS},
        {"train", "--set train: must be KEY.PATH=VALUE"},
        {"train.lr.x=1", "--set train.lr: is a map, must be a number"},
        {"data.partition.alpha=1", "--set data.partition.alpha: is no key of "
                                   "data.partition.kind: iid"},
        {"selection.clients_per_round=11", "--set selection.clients_per_round: 11 is out of range "
                                           "(0 to 10, which is data.partition.clients)"},
        {"model.layers=[dense]", "--set model.layers[0].dense.out: is missing"},
    };
    for (size_t i = 0; i < N(bad); i++) {
        assert_int_not_equal(try_plan(DATA, bad[i].set, &p, &err), SL_OK);
        assert_string_equal(err.msg, bad[i].msg);
    }
}

static void set_of_a_kind_drops_the_files_keys_of_the_other_kind(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse("data: {dataset: csv, partition: {kind: dirichlet, alpha: 0.1}}\n",
          "data.partition.kind=iid", &p);
    assert_int_equal(p.data.partition.kind, SL_PARTITION_IID);
    assert_true(p.data.partition.alpha == 0.3);
    sl_plan_deinit(&p);
    parse(DATA "model: {layers: [flatten, {dense: 2}]}\n", "model.name=cnn", &p);
    assert_string_equal(p.model.name, "cnn");
    assert_int_equal(p.model.layers.n_layers, 0);
    sl_plan_deinit(&p);
    parse(DATA "model: {name: cnn}\n", "model.layers=[flatten, {dense: 2}]", &p);
    assert_string_equal(p.model.name, "");
    assert_int_equal(p.model.layers.n_layers, 2);
    sl_plan_deinit(&p);
    parse(DATA "model: {init: {rule: splitmix, seed: 4}}\n", "model.init=uniform", &p);
    assert_int_equal(p.model.init, SL_INIT_UNIFORM);
    sl_plan_deinit(&p);
    parse(DATA "model: {init: {file: x}}\n", "model.init.rule=uniform", &p);
    assert_int_equal(p.model.init, SL_INIT_UNIFORM);
    assert_string_equal(p.model.init_path, "");
    sl_plan_deinit(&p);
    parse(DATA "train: {local_steps: 4}\n", "train.local_steps.file=x", &p);
    assert_int_equal(p.train.local_steps, -1);
    assert_string_equal(p.train.steps_path, "x");
    sl_plan_deinit(&p);
}

/* --- files ------------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void relative_paths_follow_the_plans_folder(void **state)
{
    UNUSED(state);
    char dir[] = "/tmp/sl_plan.XXXXXX", path[64], wanted[128];
    struct sl_plan p;
    struct sl_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/p.yaml", dir);
    write_file(path, "data: {dataset: csv, path: d, partition: {kind: file, path: /abs}}\n"
                     "selection: {policy: file, path: x/s.txt}\n");
    const struct sl_plan_override set = {"selection.path=here.txt"};
    assert_int_equal(sl_plan_load(path, NULL, 0, &p, &err), SL_OK);
    snprintf(wanted, sizeof(wanted), "%s/d", dir);
    assert_string_equal(p.data.path, wanted);
    snprintf(wanted, sizeof(wanted), "%s/x/s.txt", dir);
    assert_string_equal(p.selection.path, wanted);
    assert_string_equal(p.data.partition.path, "/abs");
    sl_plan_deinit(&p);
    assert_int_equal(sl_plan_load(path, &set, 1, &p, &err), SL_OK);
    assert_string_equal(p.selection.path, "here.txt");
    sl_plan_deinit(&p);
    write_file(path, "data: {dataset: synthetic, path: \"train=40,test=10\"}\n");
    assert_int_equal(sl_plan_load(path, NULL, 0, &p, &err), SL_OK);
    assert_string_equal(p.data.path, "train=40,test=10");
    sl_plan_deinit(&p);
    write_file(path, "data: {dataset: csv}\nrun: {rounds: 0}\n");
    assert_int_equal(sl_plan_load(path, NULL, 0, &p, &err), SL_E_RANGE);
    snprintf(wanted, sizeof(wanted), "%s:2: run.rounds", path);
    assert_memory_equal(err.msg, wanted, strlen(wanted));
    unlink(path);
    assert_int_equal(sl_plan_load(path, NULL, 0, &p, &err), SL_E_NOTFOUND);
    rmdir(dir);
}

static void every_plan_we_ship_is_valid_and_round_trips(void **state)
{
    UNUSED(state);
    const char *golden = getenv("SL_GOLDEN");
    char folder[512], path[1024];
    size_t n = 0;
    if (golden == NULL)
        skip();
    snprintf(folder, sizeof(folder), "%s/../../plans", golden);
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strstr(e->d_name, ".yaml") == NULL)
            continue;
        struct sl_plan p;
        struct sl_err err = {0};
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (sl_plan_load(path, NULL, 0, &p, &err) != SL_OK)
            fail_msg("%s", err.msg);
        check_round_trip(&p);
        sl_plan_deinit(&p);
        n++;
    }
    closedir(d);
    assert_true(n >= 5);
}

/* --- canonical text ---------------------------------------------------------------------------- */

static void texts_with_quotes_and_letters_round_trip(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA "run: {name: \"a \\\"b\\\" \\\\ # : {\xc3\xa9} 'x' \"}\n", NULL, &p);
    assert_string_equal(p.run.name, "a \"b\" \\ # : {\xc3\xa9} 'x' ");
    check_round_trip(&p);
    sl_plan_deinit(&p);
}

static void random_plans_round_trip_bit_by_bit(void **state)
{
    UNUSED(state);
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 4});
    for (int i = 0; i < 300; i++) {
        struct sl_plan p;
        sl_plan_default(&p);
        strcpy(p.data.dataset, "synthetic");
        p.run.seed = (uint64_t)sl_rng_u32(&r) << 32 | sl_rng_u32(&r);
        p.run.rounds = 1 + sl_rng_u32(&r) % SL_ROUNDS_MAX;
        p.data.limit = sl_rng_u32(&r);
        p.data.partition.kind = (enum sl_partition_kind)(sl_rng_u32(&r) % SL_PARTITION_FILE);
        p.train.lr = ldexp(1 + sl_rng_f64(&r), -(int)(sl_rng_u32(&r) % 25));
        p.train.momentum = sl_rng_f64(&r);
        p.train.beta1 = sl_rng_f64(&r);
        p.train.eps = ldexp(1 + sl_rng_f64(&r), -(int)(1 + sl_rng_u32(&r) % 900));
        p.train.schedule.kind = (enum sl_schedule_kind)(sl_rng_u32(&r) % 3);
        p.train.schedule.factor =
            p.train.schedule.kind == SL_SCHEDULE_STEP ? 0.1 + sl_rng_f64(&r) : 0.5;
        p.train.local_steps = (int64_t)(sl_rng_u32(&r) % 3) - 1;
        p.selection.deadline_s = 1e-3 + 1e5 * sl_rng_f64(&r);
        p.sim.world.dropout = sl_rng_f64(&r);
        p.sim.world.up_mbit = 1e-3 + 1e3 * sl_rng_f64(&r);
        p.sim.faults.power_loss = sl_rng_u32(&r) & 1;
        if (sl_rng_u32(&r) & 1) {
            struct sl_layer_spec l = sl_layer_default(SL_LAYER_DROPOUT);
            p.model.name[0] = '\0';
            for (int k = 0; k < 5; k++) {
                l.rate = (float)sl_rng_f64(&r) * 0.99f;
                assert_int_equal(sl_model_spec_add(&p.model.layers, &l, NULL), SL_OK);
            }
        }
        check_round_trip(&p);
        sl_plan_deinit(&p);
    }
}

static void the_digest_names_content_and_not_spelling(void **state)
{
    UNUSED(state);
    static const char *const same[] = {
        "data: {dataset: csv}\ntrain: {lr: 0.1}\n",
        "train:\n  lr: 1.0e-1 # rate\ndata:\n  dataset: \"csv\"\n",
        "train: {lr: .1, epochs: 1}\ndata: {dataset: csv, limit: 0}\n",
    };
    uint8_t first[SL_DIGEST_BYTES], other[SL_DIGEST_BYTES];
    struct sl_plan p;
    for (size_t i = 0; i < N(same); i++) {
        parse(same[i], NULL, &p);
        assert_int_equal(sl_plan_digest(&p, i == 0 ? first : other, NULL), SL_OK);
        if (i > 0)
            assert_memory_equal(first, other, sizeof(first));
        sl_plan_deinit(&p);
    }
    parse(same[0], "run.seed=2", &p);
    assert_int_equal(sl_plan_digest(&p, other, NULL), SL_OK);
    assert_memory_not_equal(first, other, sizeof(first));
    sl_plan_deinit(&p);
}

/* --- schedules and cohorts --------------------------------------------------------------------- */

static void step_and_constant_rates_follow_their_rounds(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA "train: {lr: 0.5}\n", NULL, &p);
    assert_true(sl_plan_lr(&p, 0) == 0.5 && sl_plan_lr(&p, 999) == 0.5);
    sl_plan_deinit(&p);
    parse(DATA "train: {lr: 1, lr_schedule: {kind: step, every: 3, factor: 0.5}}\n", NULL, &p);
    const double wanted[] = {1, 1, 1, 0.5, 0.5, 0.5, 0.25};
    for (uint32_t i = 0; i < N(wanted); i++)
        assert_true(sl_plan_lr(&p, i) == wanted[i]);
    sl_plan_deinit(&p);
}

static void the_cosine_rate_falls_from_lr_to_min_lr(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA "run: {rounds: 101}\ntrain: {lr: 0.8, lr_schedule: {kind: cosine, min_lr: 0.1}}\n",
          NULL, &p);
    assert_true(sl_plan_lr(&p, 0) == 0.8 && sl_plan_lr(&p, 100) == 0.1);
    assert_true(sl_plan_lr(&p, 5000) == 0.1);
    assert_true(fabs(sl_plan_lr(&p, 50) - 0.45) < 1e-15);
    for (uint32_t i = 0; i <= 100; i++) {
        double exact = 0.1 + 0.7 * 0.5 * (1 + cos(3.14159265358979323846 * i / 100));
        assert_true(fabs(sl_plan_lr(&p, i) - exact) < 5e-16);
        assert_true(i == 0 || sl_plan_lr(&p, i) < sl_plan_lr(&p, i - 1));
    }
    p.run.rounds = 1;
    assert_true(sl_plan_lr(&p, 0) == 0.8);
    sl_plan_deinit(&p);
}

static void a_cohort_of_zero_is_everybody(void **state)
{
    UNUSED(state);
    struct sl_plan p;
    parse(DATA, NULL, &p);
    assert_int_equal(sl_plan_cohort_size(&p), 10);
    p.selection.clients_per_round = 4;
    assert_int_equal(sl_plan_cohort_size(&p), 4);
    sl_plan_deinit(&p);
}

static void every_truncation_of_a_plan_is_read_or_refused_in_one_line(void **state)
{
    UNUSED(state);
    static const char text[] =
        DATA "run: {name: \"x\"}\nmodel: {layers: [flatten, {residual: [{dense: 3}]}]}\n"
             "train: {betas: [0.9, 0.99]}\n";
    for (size_t n = 0; n < sizeof(text); n++) {
        struct sl_plan p = {0};
        struct sl_err err = {0};
        if (sl_plan_parse(text, n, "p", NULL, 0, &p, &err) != SL_OK) {
            assert_true(err.msg[0] != '\0');
            assert_null(strchr(err.msg, '\n'));
        }
        sl_plan_deinit(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_plan_has_defaults),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(a_policy_that_decides_has_its_own_keys),
        cmocka_unit_test(probes_are_refused_where_they_have_no_meaning),
        cmocka_unit_test(layers_have_long_and_short_forms),
        cmocka_unit_test(init_and_steps_have_short_forms),
        cmocka_unit_test(bad_keys_and_values_are_refused_with_what_is_allowed),
        cmocka_unit_test(bad_data_is_refused),
        cmocka_unit_test(too_many_layers_are_refused),
        cmocka_unit_test(set_changes_a_key_and_is_checked_alike),
        cmocka_unit_test(set_of_a_kind_drops_the_files_keys_of_the_other_kind),
        cmocka_unit_test(relative_paths_follow_the_plans_folder),
        cmocka_unit_test(every_plan_we_ship_is_valid_and_round_trips),
        cmocka_unit_test(texts_with_quotes_and_letters_round_trip),
        cmocka_unit_test(random_plans_round_trip_bit_by_bit),
        cmocka_unit_test(the_digest_names_content_and_not_spelling),
        cmocka_unit_test(step_and_constant_rates_follow_their_rounds),
        cmocka_unit_test(the_cosine_rate_falls_from_lr_to_min_lr),
        cmocka_unit_test(a_cohort_of_zero_is_everybody),
        cmocka_unit_test(every_truncation_of_a_plan_is_read_or_refused_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

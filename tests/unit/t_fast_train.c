/* SPDX-License-Identifier: Apache-2.0 */
/* Training with the unit "fast": equal bits on every kernel level and form, what the
 * ledger counts, widths, noise positions, divergence, refused options. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/nn/train.h"
#include "accel/units/fast.h"

#define N 48

static struct sl_dataset set;

static int make_set(void **state)
{
    struct sl_dataset_source src = {.kind = "synthetic",
                                    .path = "train=60,test=10,seed=4"};
    struct sl_err err;
    return sl_dataset_load(&src, &set, &err) == SL_OK ? 0 : -1;
}

static int drop_set(void **state)
{
    sl_dataset_deinit(&set);
    return 0;
}

/* A model, a trainer with these options, start values and results. */
struct bench {
    struct sl_model *m;
    struct sl_trainer *t;
    struct sl_fast_options o;
    struct sl_train_spec spec;
    size_t n;
    float *start, *end;
    struct sl_train_result r;
};

static void bench_init(struct bench *b, const char *name, size_t max_batch,
                       uint32_t cpu_off)
{
    struct sl_model_spec spec = {0};
    struct sl_shape in = {3, {set.channels, set.height, set.width}};
    struct sl_err err;
    assert_int_equal(sl_model_spec_named(name, set.n_classes, &spec, &err), SL_OK);
    assert_int_equal(
        sl_model_new(&spec, &in, set.n_classes, SL_LOSS_SOFTMAX_CE, &b->m, &err), SL_OK);
    sl_model_spec_deinit(&spec);
    struct sl_trainer_options o = {.max_batch = max_batch,
                                   .unit = &sl_matmul_fast,
                                   .unit_options = {.fast = &b->o},
                                   .cpu_off = cpu_off};
    assert_int_equal(sl_fast_check(&b->o, &err), SL_OK);
    assert_int_equal(sl_trainer_new(b->m, &o, &b->t, &err), SL_OK);
    b->n = sl_model_layout(b->m)->n_values;
    b->start = calloc(2 * b->n, sizeof(float));
    b->end = b->start + b->n;
    sl_model_init_uniform(b->m, 1, b->start);
    b->spec = (struct sl_train_spec){.lr = 0.05,
                                     .batch_size = 16,
                                     .epochs = 1,
                                     .local_steps = -1,
                                     .seed = 9,
                                     .client = 3,
                                     .round = 1,
                                     .rounds = 4};
}

static void bench_deinit(struct bench *b)
{
    sl_trainer_free(b->t);
    sl_model_free(b->m);
    free(b->start);
}

static void train(struct bench *b)
{
    struct sl_samples s = {&set, NULL, N};
    struct sl_err err;
    if (sl_train(b->t, b->start, &s, &b->spec, b->end, &b->r, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static double mean_passes(const struct sl_trainer *t)
{
    const struct sl_unit_ledger *l = sl_trainer_ledger(t);
    uint64_t macs = 0, work = 0;
    for (int p = 0; p < SL_PASSES; p++) {
        macs += l->macs[p];
        work += l->work[p];
    }
    return (double)work / (double)macs;
}

/* --- equal bits
 * ------------------------------------------------------------------------------ */

static void every_kernel_level_trains_to_the_same_values(void **state)
{
    static const char *const names[] = {"lenet", "resnet8", "mlp"};
    static const uint32_t off[] = {0, SL_CPU_AVX512_VNNI, SL_CPU_AVX512, UINT32_MAX,
                                   SL_CPU_DOTPROD};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct bench first = {.o = sl_fast_defaults()};
        bench_init(&first, names[i], 16, off[0]);
        train(&first);
        for (size_t l = 1; l < sizeof(off) / sizeof(off[0]); l++) {
            struct bench b = {.o = sl_fast_defaults()};
            bench_init(&b, names[i], 16, off[l]);
            train(&b);
            assert_memory_equal(first.end, b.end, b.n * sizeof(float));
            bench_deinit(&b);
        }
        bench_deinit(&first);
    }
}

static void a_trainer_used_before_gives_the_same_values(void **state)
{
    struct bench a = {.o = sl_fast_defaults()}, b = a;
    struct sl_samples s = {&set, NULL, N};
    struct sl_eval_result e;
    bench_init(&a, "lenet", 16, 0);
    bench_init(&b, "lenet", 16, 0);
    a.o.refresh = b.o.refresh = 2;
    b.spec.client = 4;
    train(&b);
    assert_int_equal(sl_evaluate(b.t, b.end, &s, &e, NULL), SL_OK);
    b.spec.client = 3;
    train(&a);
    train(&b);
    assert_memory_equal(a.end, b.end, a.n * sizeof(float));
    bench_deinit(&a);
    bench_deinit(&b);
}

static void evaluation_between_epochs_changes_nothing(void **state)
{
    struct bench a = {.o = sl_fast_defaults()}, b = a;
    struct sl_samples s = {&set, NULL, N};
    struct sl_eval_result e;
    bench_init(&a, "lenet", 16, 0);
    bench_init(&b, "lenet", 16, 0);
    a.o.refresh = b.o.refresh = 5; /* the second epoch begins between two refreshes */
    a.spec.epochs = b.spec.epochs = 2;
    train(&a);
    assert_int_equal(sl_train_begin(b.t, b.start, &s, &b.spec, NULL), SL_OK);
    assert_int_equal(sl_train_run(b.t, 1, &b.r, NULL), SL_OK);
    assert_int_equal(sl_evaluate(b.t, b.start, &s, &e, NULL), SL_OK);
    assert_int_equal(sl_train_run(b.t, 1, &b.r, NULL), SL_OK);
    assert_memory_equal(a.end, sl_train_values(b.t), a.n * sizeof(float));
    bench_deinit(&a);
    bench_deinit(&b);
}

static void noise_depends_on_seed_client_step_and_part(void **state)
{
    struct bench b = {.o = sl_fast_defaults()};
    bench_init(&b, "mlp", 16, 0);
    b.spec.batch_size = 0; /* full batch: one order for all */
    float *first = malloc(b.n * sizeof(float));
    train(&b);
    memcpy(first, b.end, b.n * sizeof(float));
    train(&b);
    assert_memory_equal(first, b.end, b.n * sizeof(float));
    b.spec.client++;
    train(&b);
    assert_memory_not_equal(first, b.end, b.n * sizeof(float));
    b.spec.client--;
    b.spec.seed++;
    train(&b);
    assert_memory_not_equal(first, b.end, b.n * sizeof(float));
    struct sl_rng_id id = {.seed = 1, .client = 2, .round = 3, .step = 4};
    assert_true(sl_fast_key(&id, 1, 2, 1, 0, 0) != sl_fast_key(&id, 1, 2, 1, 1, 0));
    assert_true(sl_fast_key(&id, 1, 2, 1, 0, 0) != sl_fast_key(&id, 1, 2, 2, 0, 0));
    const uint64_t v[6] = {1, 2, (UINT64_C(3) << 32) + 4, 1, 2, 1};
    assert_true(sl_fast_key(&id, 1, 2, 1, 0, 0) == sl_hash64(v, 6));
    free(first);
    bench_deinit(&b);
}

/* --- widths
 * ---------------------------------------------------------------------------------- */

static void limits_of_alpha_choose_two_or_four_bits(void **state)
{
    struct bench b = {.o = sl_fast_defaults()};
    b.o.alpha = INFINITY;
    bench_init(&b, "lenet", 16, 0);
    train(&b);
    assert_true(mean_passes(b.t) == 1.0);
    for (int r = 0; r < SL_ROLES; r++) {
        assert_true(sl_trainer_ledger(b.t)->widths[r] > 0);
        assert_int_equal(sl_trainer_ledger(b.t)->wide[r], 0);
    }
    bench_deinit(&b);
    b.o.alpha = -INFINITY;
    bench_init(&b, "lenet", 16, 0);
    train(&b);
    assert_true(mean_passes(b.t) == 4.0);
    const struct sl_unit_ledger *all = sl_trainer_ledger(b.t);
    for (int r = 0; r < SL_ROLES; r++) {
        uint64_t wide = 0;
        const struct sl_unit_ledger *l;
        for (size_t i = 0; (l = sl_trainer_layer_ledger(b.t, i)) != NULL; i++)
            wide += l->wide[r];
        assert_int_equal(all->wide[r], all->widths[r]);
        assert_int_equal(all->wide[r], wide);
    }
    bench_deinit(&b);
}

static void widths_grow_with_the_run(void **state)
{
    double passes[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct bench b = {.o = sl_fast_defaults()};
        bench_init(&b, "lenet", 16, 0);
        b.spec.rounds = 100;
        b.spec.round = i * 99;
        train(&b);
        passes[i] = mean_passes(b.t);
        bench_deinit(&b);
    }
    assert_true(passes[0] < passes[1]);
    assert_true(passes[0] > 1.0 && passes[1] < 4.0);
}

static void forms_of_equal_numbers_train_alike(void **state)
{
    /* e unlimited differs from 4 only in groups 2^15 below the largest */
    struct bench a = {.o = sl_fast_defaults()}, b = a;
    a.o.precision = b.o.precision = SL_FAST_HIGH;
    b.o.e = 0;
    bench_init(&a, "mlp", 16, 0);
    bench_init(&b, "mlp", 16, 0);
    train(&a);
    train(&b);
    double far = 0.0;
    for (size_t i = 0; i < a.n; i++)
        far = fmax(far, fabs((double)a.end[i] - (double)b.end[i]));
    assert_true(far < 0.01);
    bench_deinit(&a);
    bench_deinit(&b);
}

/* --- ledger
 * ---------------------------------------------------------------------------------- */

static void the_ledger_counts_passes_by_the_formula(void **state)
{
    struct bench b = {.o = sl_fast_defaults()};
    b.o.precision = SL_FAST_FIXED;
    b.o.m[SL_FAST_W] = 4;
    b.o.m[SL_FAST_A] = 2;
    b.o.m[SL_FAST_G] = 3;
    bench_init(&b, "mlp", 16, 0);
    train(&b);
    const struct sl_unit_ledger *l = sl_trainer_ledger(b.t);
    uint64_t first = N * 784ull * 200, rest = N * (200ull * 200 + 200 * 10);
    assert_int_equal(l->work[SL_PASS_FORWARD], 2 * (first + rest));
    assert_int_equal(l->work[SL_PASS_INPUT_GRADIENT], 4 * rest);
    assert_int_equal(l->work[SL_PASS_WEIGHT_GRADIENT], 2 * (first + rest));
    /* three steps of 16: fc1 has 49 groups in 256 rows, 200 columns in 64 */
    uint64_t cycles = 0;
    static const uint64_t groups[] = {49, 13, 13}, columns[] = {200, 200, 10};
    for (int i = 0; i < 3; i++)
        cycles += 3 * sl_fast_cycles(&b.o, 16, columns[i], groups[i], 2);
    assert_int_equal(l->cycles[SL_PASS_FORWARD], cycles);
    assert_int_equal(sl_fast_cycles(&b.o, 16, 200, 49, 2), 4 * (32 + 256 + 64 - 1));
    uint64_t weights = 784 * 200 + 200 * 200 + 200 * 10;
    assert_int_equal(l->conversions[SL_PASS_FORWARD],
                     3 * weights + N * (784 + 200 + 200));
    assert_int_equal(sl_fast_group_bits(&b.o, 4), 100);
    assert_int_equal(sl_fast_group_bits(&b.o, 2), 52);
    uint64_t sum = 0;
    for (size_t i = 0; sl_trainer_layer_ledger(b.t, i) != NULL; i++)
        sum += sl_trainer_layer_ledger(b.t, i)->bits[SL_PASS_WEIGHT_GRADIENT];
    assert_true(sum > 0);
    assert_int_equal(sum, l->bits[SL_PASS_WEIGHT_GRADIENT]);
    assert_true(sl_fast_energy(&b.o, l) > 0.0);
    bench_deinit(&b);
}

static void all_settings_of_three_widths_train_and_count_their_passes(void **state)
{
    const uint64_t first = N * 784ull * 200, rest = N * (200ull * 200 + 200 * 10);
    for (uint32_t i = 0; i < 8; i++) {
        struct bench b = {.o = sl_fast_defaults()}, best;
        uint32_t w = 2 + 2 * (i & 1), a = 2 + (i & 2), g = 2 + (i >> 1 & 2);
        b.o.precision = SL_FAST_FIXED;
        b.o.m[SL_FAST_W] = w;
        b.o.m[SL_FAST_A] = a;
        b.o.m[SL_FAST_G] = g;
        best = b;
        bench_init(&b, "mlp", 16, 0);
        bench_init(&best, "mlp", 16, UINT32_MAX);
        train(&b);
        train(&best);
        assert_memory_equal(b.end, best.end, b.n * sizeof(float));
        const struct sl_unit_ledger *l = sl_trainer_ledger(b.t);
        assert_int_equal(l->work[SL_PASS_FORWARD], w * a / 4 * (first + rest));
        assert_int_equal(l->work[SL_PASS_INPUT_GRADIENT], w * g / 4 * rest);
        assert_int_equal(l->work[SL_PASS_WEIGHT_GRADIENT], a * g / 4 * (first + rest));
        bench_deinit(&b);
        bench_deinit(&best);
    }
}

/* --- registers
 * ------------------------------------------------------------------------------- */

static void registers_go_on_from_task_to_task(void **state)
{
    struct bench b = {.o = sl_fast_defaults()};
    b.o.round_gradient = SL_BFP_LFSR;
    bench_init(&b, "tiny", 16, 0);
    train(&b);
    /* one layer, no data gradient: 10 lines of 16 images a step */
    assert_int_equal(b.r.noise, 3 * 10);
    float *first = malloc(b.n * sizeof(float));
    memcpy(first, b.end, b.n * sizeof(float));
    train(&b); /* the round did not commit: the same again */
    assert_memory_equal(first, b.end, b.n * sizeof(float));
    b.spec.noise = b.r.noise;
    train(&b);
    assert_int_equal(b.r.noise, 60);
    assert_memory_not_equal(first, b.end, b.n * sizeof(float));
    free(first);
    bench_deinit(&b);
}

static void registers_train_alike_on_every_level(void **state)
{
    static const char *const names[] = {"lenet", "resnet8"};
    for (size_t i = 0; i < 2; i++) {
        struct bench a = {.o = sl_fast_defaults()}, b;
        a.o.round_gradient = SL_BFP_LFSR;
        b = a;
        bench_init(&a, names[i], 16, 0);
        bench_init(&b, names[i], 16, UINT32_MAX);
        train(&a);
        train(&b);
        assert_int_equal(a.r.noise, b.r.noise);
        assert_memory_equal(a.end, b.end, a.n * sizeof(float));
        bench_deinit(&a);
        bench_deinit(&b);
    }
}

/* --- what is refused
 * ------------------------------------------------------------------------- */

static void a_nan_in_the_weights_ends_the_training(void **state)
{
    struct bench b = {.o = sl_fast_defaults()};
    struct sl_samples s = {&set, NULL, N};
    struct sl_err err;
    bench_init(&b, "lenet", 16, 0);
    b.start[7] = NAN;
    assert_int_equal(sl_train(b.t, b.start, &s, &b.spec, b.end, &b.r, &err), SL_E_FAILED);
    assert_non_null(strstr(err.msg, "diverged"));
    bench_deinit(&b);
}

static void options_out_of_range_are_refused(void **state)
{
    struct sl_err err;
    struct sl_fast_options o = sl_fast_defaults();
    assert_int_equal(sl_fast_check(&o, &err), SL_OK);
    o.g = 0;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.e = 7;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.refresh = 0;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.alpha = NAN;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.round = SL_BFP_CTR;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.round_gradient = SL_BFP_GIVEN;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.rows = 0;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o = sl_fast_defaults();
    o.precision = SL_FAST_FIXED;
    o.g = 512;
    o.m[SL_FAST_A] = 8;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    o.m[SL_FAST_A] = 9;
    assert_int_equal(sl_fast_check(&o, &err), SL_E_RANGE);
    assert_non_null(strstr(err.msg, "m 9"));
}

static void precisions_are_read_by_name(void **state)
{
    struct sl_fast_options o = sl_fast_defaults();
    struct sl_err err;
    assert_int_equal(sl_fast_precision_parse("low", &o, &err), SL_OK);
    assert_int_equal(o.precision, SL_FAST_LOW);
    assert_int_equal(sl_fast_precision_parse("3", &o, &err), SL_OK);
    assert_int_equal(o.precision, SL_FAST_FIXED);
    assert_int_equal(o.m[SL_FAST_G], 3);
    assert_int_equal(sl_fast_precision_parse("adaptive", &o, &err), SL_OK);
    static const char *const bad[] = {"", "0", "9", "44", "Low", "medium"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_fast_precision_parse(bad[i], &o, &err), SL_E_RANGE);
    assert_int_equal(o.precision, SL_FAST_ADAPTIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_level_trains_to_the_same_values),
        cmocka_unit_test(a_trainer_used_before_gives_the_same_values),
        cmocka_unit_test(evaluation_between_epochs_changes_nothing),
        cmocka_unit_test(noise_depends_on_seed_client_step_and_part),
        cmocka_unit_test(limits_of_alpha_choose_two_or_four_bits),
        cmocka_unit_test(widths_grow_with_the_run),
        cmocka_unit_test(forms_of_equal_numbers_train_alike),
        cmocka_unit_test(the_ledger_counts_passes_by_the_formula),
        cmocka_unit_test(all_settings_of_three_widths_train_and_count_their_passes),
        cmocka_unit_test(registers_go_on_from_task_to_task),
        cmocka_unit_test(registers_train_alike_on_every_level),
        cmocka_unit_test(a_nan_in_the_weights_ends_the_training),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(precisions_are_read_by_name),
    };
    sl_accel_init();
    return cmocka_run_group_tests(tests, make_set, drop_set);
}

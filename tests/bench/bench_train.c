/* SPDX-License-Identifier: Apache-2.0 */
/* bench_train.c - samples per CPU second of local training, one thread, batch 32, SGD
 * 0.05, one epoch over each of ten shares of Fashion-MNIST a round (about 6,500 samples),
 * as the PyTorch loop of BASELINES section 2. Prints one JSON line a model: median and
 * best over rounds. usage: bench_train [--rounds N] [--threads N] [--unit NAME]
 * [--precision P] [MODEL...]; --unit both: fp32 and fast in turn, and the ratio. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/nn/train.h"
#include "accel/units/fast.h"
#include "common/dataset.h"
#include "common/mem.h"

#define CLIENTS 10
#define SHARE 650
#define ROUNDS_MAX 64

struct job {
    const struct sl_dataset *set;
    const struct sl_model *model;
    const struct sl_matmul_unit *unit;
    const struct sl_fast_options *fast;
    uint32_t cpu_off;
    int rounds;
    bool failed;
    double rate[ROUNDS_MAX]; /* samples per CPU second */
    double wall[ROUNDS_MAX]; /* seconds */
    size_t bytes;
    struct sl_train_result last;
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool one_round(struct job *j, struct sl_trainer *t, const float *start, float *end,
                      uint32_t round)
{
    struct sl_train_spec spec = {.lr = 0.05,
                                 .batch_size = 32,
                                 .epochs = 1,
                                 .local_steps = -1,
                                 .order = SL_ORDER_BENCH,
                                 .seed = 1,
                                 .round = round};
    uint32_t index[SHARE];
    struct sl_err err;
    for (uint32_t client = 0; client < CLIENTS; client++) {
        for (uint32_t i = 0; i < SHARE; i++)
            index[i] = (uint32_t)((client * SHARE + i) * 9u % j->set->n);
        spec.client = client;
        struct sl_samples s = {.set = j->set, .index = index, .n = SHARE};
        if (sl_train(t, start, &s, &spec, end, &j->last, &err) != SL_OK) {
            fprintf(stderr, "bench_train: %s\n", err.msg);
            return false;
        }
    }
    return true;
}

static void *work(void *arg)
{
    struct job *j = arg;
    struct sl_trainer *t = NULL;
    struct sl_err err;
    size_t n = sl_model_layout(j->model)->n_values;
    float *start = sl_calloc(n, sizeof(*start)), *end = sl_calloc(n, sizeof(*end));
    j->failed = true;
    struct sl_trainer_options o = {.max_batch = 32,
                                   .unit = j->unit,
                                   .unit_options = {.fast = j->fast},
                                   .cpu_off = j->cpu_off};
    if (start == NULL || end == NULL || sl_trainer_new(j->model, &o, &t, &err) != SL_OK)
        goto out;
    sl_model_init_splitmix(j->model, 1, 1.0, start);
    j->bytes = sl_trainer_bytes(t);
    for (int r = -1; r < j->rounds; r++) { /* the first round warms up */
        double cpu = seconds(CLOCK_THREAD_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
        if (!one_round(j, t, start, end, (uint32_t)(r + 1)))
            goto out;
        if (r < 0)
            continue;
        j->rate[r] = CLIENTS * SHARE / (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu);
        j->wall[r] = seconds(CLOCK_MONOTONIC) - wall;
    }
    j->failed = false;
out:
    sl_trainer_free(t);
    free(start);
    free(end);
    return NULL;
}

static int up(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What the command line chose. */
struct choice {
    int rounds, threads;
    uint32_t cpu_off;
    const char *unit; /* "both": fp32, fast */
    struct sl_fast_options fast;
};

static bool run_jobs(const char *name, const struct choice *o, struct job *jobs)
{
    pthread_t threads[2];
    for (int i = 0; i < o->threads; i++)
        pthread_create(&threads[i], NULL, work, &jobs[i]);
    for (int i = 0; i < o->threads; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < o->threads; i++) {
        if (jobs[i].failed)
            return false;
        qsort(jobs[i].rate, (size_t)o->rounds, sizeof(double), up);
        qsort(jobs[i].wall, (size_t)o->rounds, sizeof(double), up);
        printf(
            "{\"bench\":\"train\",\"model\":\"%s\",\"unit\":\"%s\",\"blas\":\"%s\","
            "\"thread\":%d,\"threads\":%d,"
            "\"samples_cpu_s_med\":%.0f,\"samples_cpu_s_max\":%.0f,\"round_s_med\":%.4f,"
            "\"trainer_mb\":%.1f,\"loss_last\":%.4f}\n",
            name, jobs[i].unit->name, sl_accel_blas_name(), i, o->threads,
            jobs[i].rate[o->rounds / 2], jobs[i].rate[o->rounds - 1],
            jobs[i].wall[o->rounds / 2], (double)jobs[i].bytes / 1e6,
            jobs[i].last.loss_sum / (double)jobs[i].last.samples_seen);
    }
    return true;
}

/* Median rate with this unit, or 0. */
static double bench_unit(const char *name, const char *unit, const struct sl_dataset *set,
                         const struct sl_model *model, const struct choice *o)
{
    struct job jobs[2] = {0};
    for (int i = 0; i < o->threads; i++)
        jobs[i] = (struct job){.set = set,
                               .model = model,
                               .unit = sl_matmul_unit_find(unit),
                               .fast = &o->fast,
                               .cpu_off = o->cpu_off,
                               .rounds = o->rounds};
    if (jobs[0].unit == NULL || !run_jobs(name, o, jobs)) {
        fprintf(stderr, "bench_train: unit %s failed or is not known\n", unit);
        return 0.0;
    }
    return jobs[0].rate[o->rounds / 2];
}

static bool bench_model(const char *name, const struct sl_dataset *set,
                        const struct choice *o)
{
    struct sl_model_spec spec = {0};
    struct sl_model *model = NULL;
    struct sl_err err = {0};
    struct sl_shape in = {3, {set->channels, set->height, set->width}};
    bool ok = sl_model_spec_named(name, set->n_classes, &spec, &err) == SL_OK &&
              sl_model_new(&spec, &in, set->n_classes, SL_LOSS_SOFTMAX_CE, &model,
                           &err) == SL_OK;
    if (!ok) {
        fprintf(stderr, "bench_train: %s\n", err.msg);
    } else if (strcmp(o->unit, "both") == 0) {
        double fp32 = bench_unit(name, "fp32", set, model, o);
        double fast = bench_unit(name, "fast", set, model, o);
        ok = fp32 > 0.0 && fast > 0.0;
        printf("{\"bench\":\"train\",\"model\":\"%s\",\"fast_to_fp32\":%.2f}\n", name,
               ok ? fast / fp32 : 0.0);
    } else {
        ok = bench_unit(name, o->unit, set, model, o) > 0.0;
    }
    sl_model_free(model);
    sl_model_spec_deinit(&spec);
    return ok;
}

static bool parse(int argc, char **argv, int *first, struct choice *ret)
{
    struct sl_err err;
    for (; *first + 1 < argc && argv[*first][0] == '-'; *first += 2) {
        const char *name = argv[*first], *value = argv[*first + 1];
        if (strcmp(name, "--rounds") == 0)
            ret->rounds = atoi(value);
        else if (strcmp(name, "--threads") == 0)
            ret->threads = atoi(value);
        else if (strcmp(name, "--unit") == 0)
            ret->unit = value;
        else if (strcmp(name, "--precision") != 0 ||
                 sl_fast_precision_parse(value, &ret->fast, &err) != SL_OK)
            return false;
    }
    return ret->rounds >= 1 && ret->rounds <= ROUNDS_MAX && ret->threads >= 1 &&
           ret->threads <= 2 &&
           sl_cpu_off_parse(getenv("STARLING_CPU_MASK"), &ret->cpu_off);
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"tiny", "mlp", "lenet", "cnn"};
    struct sl_dataset_source src = {.kind = "fashion-mnist", .path = "", .limit = 60000};
    struct sl_dataset set = {0};
    struct sl_err err;
    struct choice o = {
        .rounds = 5, .threads = 1, .unit = "fp32", .fast = sl_fast_defaults()};
    int first = 1, failed = 0;
    if (!parse(argc, argv, &first, &o)) {
        fprintf(
            stderr,
            "usage: bench_train [--rounds 1..%d] [--threads 1..2] [--unit fp32|fast|both]"
            " [--precision adaptive|low|high] [MODEL...]\n",
            ROUNDS_MAX);
        return 2;
    }
    sl_mem_tune_malloc();
    sl_accel_init();
    if (sl_dataset_load(&src, &set, &err) != SL_OK) {
        printf("bench_train: skipped: %s\n", err.msg);
        return 77;
    }
    if (first == argc)
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            failed |= !bench_model(all[i], &set, &o);
    for (int i = first; i < argc; i++)
        failed |= !bench_model(argv[i], &set, &o);
    sl_dataset_deinit(&set);
    return failed;
}

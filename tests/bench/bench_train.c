/* SPDX-License-Identifier: Apache-2.0 */
/* bench_train.c - samples per CPU second of local training, one thread, batch 32, SGD
 * 0.05, one epoch over each of ten shares of Fashion-MNIST a round (about 6,500 samples),
 * as the PyTorch loop of BASELINES section 2. Prints one JSON line a model and unit:
 * median and best over rounds. usage: bench_train [--rounds N] [--threads N] [--unit
 * NAME] [--precision P] [MODEL...]; --unit both: fp32 and fast take turns share by share,
 * so that other load hits both alike, and the ratio of their medians is printed. */
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

#define SIDES_MAX 2

/* A unit at work, with its own trainer. */
struct side {
    const struct sl_matmul_unit *unit;
    struct sl_trainer *trainer;
    float *start, *end;
    double rate[ROUNDS_MAX]; /* samples per CPU second */
    double wall[ROUNDS_MAX]; /* seconds */
    size_t bytes;
    struct sl_train_result last;
};

struct job {
    const struct sl_dataset *set;
    const struct sl_model *model;
    const struct sl_fast_options *fast;
    uint32_t cpu_off;
    int rounds, n_sides;
    bool failed;
    struct side sides[SIDES_MAX];
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool one_share(const struct job *j, struct side *side, uint32_t round,
                      uint32_t client)
{
    struct sl_train_spec spec = {.lr = 0.05,
                                 .batch_size = 32,
                                 .epochs = 1,
                                 .local_steps = -1,
                                 .order = SL_ORDER_BENCH,
                                 .seed = 1,
                                 .round = round,
                                 .client = client};
    uint32_t index[SHARE];
    struct sl_samples s = {.set = j->set, .index = index, .n = SHARE};
    struct sl_err err;
    for (uint32_t i = 0; i < SHARE; i++)
        index[i] = (uint32_t)((client * SHARE + i) * 9u % j->set->n);
    if (sl_train(side->trainer, side->start, &s, &spec, side->end, &side->last, &err) !=
        SL_OK) {
        fprintf(stderr, "bench_train: %s\n", err.msg);
        return false;
    }
    return true;
}

/* Every share by each side; round -1 warms up. */
static bool one_round(struct job *j, int round)
{
    double cpu[SIDES_MAX] = {0}, wall[SIDES_MAX] = {0};
    for (uint32_t client = 0; client < CLIENTS; client++)
        for (int i = 0; i < j->n_sides; i++) {
            double c = seconds(CLOCK_THREAD_CPUTIME_ID), w = seconds(CLOCK_MONOTONIC);
            if (!one_share(j, &j->sides[i], (uint32_t)(round + 1), client))
                return false;
            cpu[i] += seconds(CLOCK_THREAD_CPUTIME_ID) - c;
            wall[i] += seconds(CLOCK_MONOTONIC) - w;
        }
    for (int i = 0; i < j->n_sides && round >= 0; i++) {
        j->sides[i].rate[round] = CLIENTS * SHARE / cpu[i];
        j->sides[i].wall[round] = wall[i];
    }
    return true;
}

static bool side_init(const struct job *j, struct side *s)
{
    struct sl_err err;
    size_t n = sl_model_layout(j->model)->n_values;
    struct sl_trainer_options o = {.max_batch = 32,
                                   .unit = s->unit,
                                   .unit_options = {.fast = j->fast},
                                   .cpu_off = j->cpu_off};
    s->start = sl_calloc(n, sizeof(*s->start));
    s->end = sl_calloc(n, sizeof(*s->end));
    if (s->start == NULL || s->end == NULL ||
        sl_trainer_new(j->model, &o, &s->trainer, &err) != SL_OK)
        return false;
    sl_model_init_splitmix(j->model, 1, 1.0, s->start);
    s->bytes = sl_trainer_bytes(s->trainer);
    return true;
}

static void side_deinit(struct side *s)
{
    sl_trainer_free(s->trainer);
    free(s->start);
    free(s->end);
}

static void *work(void *arg)
{
    struct job *j = arg;
    bool ok = true;
    for (int i = 0; i < j->n_sides; i++)
        ok = ok && side_init(j, &j->sides[i]);
    for (int r = -1; r < j->rounds && ok; r++)
        ok = one_round(j, r);
    for (int i = 0; i < j->n_sides; i++)
        side_deinit(&j->sides[i]);
    j->failed = !ok;
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

static void print_side(const char *name, const struct choice *o, int thread,
                       struct side *s)
{
    qsort(s->rate, (size_t)o->rounds, sizeof(double), up);
    qsort(s->wall, (size_t)o->rounds, sizeof(double), up);
    printf("{\"bench\":\"train\",\"model\":\"%s\",\"unit\":\"%s\",\"blas\":\"%s\","
           "\"thread\":%d,\"threads\":%d,"
           "\"samples_cpu_s_med\":%.0f,\"samples_cpu_s_max\":%.0f,\"round_s_med\":%.4f,"
           "\"trainer_mb\":%.1f,\"loss_last\":%.4f}\n",
           name, s->unit->name, sl_accel_blas_name(), thread, o->threads,
           s->rate[o->rounds / 2], s->rate[o->rounds - 1], s->wall[o->rounds / 2],
           (double)s->bytes / 1e6, s->last.loss_sum / (double)s->last.samples_seen);
}

static bool run_jobs(const char *name, const struct choice *o, struct job *jobs)
{
    pthread_t threads[2];
    bool ok = true;
    for (int i = 0; i < o->threads; i++)
        pthread_create(&threads[i], NULL, work, &jobs[i]);
    for (int i = 0; i < o->threads; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < o->threads; i++)
        ok = ok && !jobs[i].failed;
    for (int i = 0; i < o->threads && ok; i++)
        for (int side = 0; side < jobs[i].n_sides; side++)
            print_side(name, o, i, &jobs[i].sides[side]);
    return ok;
}

/* One unit, or fp32 and fast in turn and the ratio of the first thread's medians. */
static bool bench_units(const char *name, const struct sl_dataset *set,
                        const struct sl_model *model, const struct choice *o)
{
    bool both = strcmp(o->unit, "both") == 0;
    struct job jobs[2] = {0};
    for (int i = 0; i < o->threads; i++) {
        jobs[i] = (struct job){.set = set,
                               .model = model,
                               .fast = &o->fast,
                               .cpu_off = o->cpu_off,
                               .rounds = o->rounds,
                               .n_sides = both ? 2 : 1};
        jobs[i].sides[0].unit = sl_matmul_unit_find(both ? "fp32" : o->unit);
        jobs[i].sides[1].unit = sl_matmul_unit_find("fast");
    }
    if (jobs[0].sides[0].unit == NULL || !run_jobs(name, o, jobs)) {
        fprintf(stderr, "bench_train: unit %s failed or is not known\n", o->unit);
        return false;
    }
    const struct side *s = jobs[0].sides;
    if (both)
        printf("{\"bench\":\"train\",\"model\":\"%s\",\"fast_to_fp32\":%.2f}\n", name,
               s[1].rate[o->rounds / 2] / s[0].rate[o->rounds / 2]);
    fflush(stdout);
    return true;
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
    if (ok)
        ok = bench_units(name, set, model, o);
    else
        fprintf(stderr, "bench_train: %s\n", err.msg);
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

/* SPDX-License-Identifier: Apache-2.0 */
/* What a calibration costs: a client's statistics against an evaluation pass over the same samples, in turn
 * in one run, by processor time; and the coordinator's sum and solution for 100 clients. One thread.
 * bench_calibrate [MODEL...] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "accel/accel.h"
#include "accel/nn/calibrate.h"
#include "accel/nn/plan_model.h"
#include "common/mem.h"
#include "common/rng.h"
#include "tests/bench/bench.h"

#define TURNS 21
#define CLIENTS 100
#define WIDTH 512
#define CLASSES 10
#define SAMPLES 600 /* of a client of the coordinator's sum */

static bool good(enum sl_code rc, const struct sl_err *err)
{
    if (rc != SL_OK)
        fprintf(stderr, "bench_calibrate: %s\n", err->msg);
    return rc == SL_OK;
}

/* --- a client -------------------------------------------------------------------------------------- */

struct client {
    struct sl_dataset set;
    struct sl_model *model;
    struct sl_trainer *trainer;
    float *values;
    struct sl_calib calib;
};

static bool open_client(const char *name, struct client *ret)
{
    char text[300];
    struct sl_plan plan;
    struct sl_err err;
    struct sl_calib_shape shape;
    snprintf(text, sizeof(text),
             "data: {dataset: synthetic, path: \"height=28,width=28,classes=10,train=1000,test=10\"}\n"
             "model: {name: %s, head: sphere}\n", name);
    if (!good(sl_plan_parse(text, strlen(text), "bench", NULL, 0, &plan, &err), &err))
        return false;
    struct sl_dataset_source src = {
        .kind = plan.data.dataset, .path = plan.data.path, .split = SL_SPLIT_TRAIN};
    struct sl_trainer_options o = {.max_batch = 32};
    bool ok = good(sl_dataset_load(&src, &ret->set, &err), &err) &&
              good(sl_plan_model(&plan, &ret->set, CLASSES, &ret->model, &err), &err) &&
              good(sl_trainer_new(ret->model, &o, &ret->trainer, &err), &err) &&
              good(sl_calib_shape_of(ret->model, false, &shape, &err), &err) &&
              good(sl_calib_init(&ret->calib, &shape, &err), &err);
    sl_plan_deinit(&plan);
    if (ok)
        ret->values = sl_calloc(sl_model_layout(ret->model)->n_values, sizeof(float));
    if (ret->values == NULL)
        return false;
    sl_model_init_uniform(ret->model, 1, ret->values);
    return good(sl_model_init_head(ret->model, 1, ret->values, &err), &err);
}

static void close_client(struct client *c)
{
    sl_calib_deinit(&c->calib);
    free(c->values);
    sl_trainer_free(c->trainer);
    sl_model_free(c->model);
    sl_dataset_deinit(&c->set);
}

static bool measure_client(const char *name)
{
    struct client c = {0};
    struct sl_err err;
    struct sl_eval_result r;
    double pass[TURNS], statistics[TURNS];
    bool ok = open_client(name, &c);
    struct sl_samples all = {.set = &c.set, .n = c.set.n};
    for (int turn = -1; ok && turn < TURNS; turn++) {
        sl_calib_clear(&c.calib);
        double a = now_s();
        ok = good(sl_evaluate(c.trainer, c.values, &all, &r, &err), &err);
        double b = now_s();
        ok = ok && good(sl_calib_collect(&c.calib, c.trainer, c.values, &all, &err), &err);
        double e = now_s();
        if (turn < 0)
            continue; /* pages are touched */
        pass[turn] = b - a;
        statistics[turn] = e - b;
    }
    if (ok) {
        double p = median(pass, TURNS), s = median(statistics, TURNS);
        printf("%s, width %" PRIu32 ", %" PRIu64 " samples: evaluation %.2f ms, statistics %.2f ms, ratio %.2f "
               "(goal 1.5)\n", name, c.calib.shape.width, all.n, p * 1e3, s * 1e3, s / p);
    }
    close_client(&c);
    return ok;
}

/* --- the coordinator -------------------------------------------------------------------------------- */

/* Statistics of a client as they arrive. */
static bool make_client(uint64_t seed, struct sl_calib *c, uint8_t *bytes)
{
    static double z[SAMPLES * WIDTH];
    static int32_t labels[SAMPLES];
    struct sl_rng r;
    struct sl_err err;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < SAMPLES; i++) {
        labels[i] = (int32_t)sl_rng_below(&r, CLASSES);
        for (size_t j = 0; j < WIDTH; j++)
            z[i * WIDTH + j] = sl_rng_normal(&r) / 22.6;
    }
    sl_calib_clear(c);
    bool ok = good(sl_calib_add(c, z, labels, SAMPLES, &err), &err);
    sl_calib_write(c, bytes);
    return ok;
}

static bool sum_and_solve(struct sl_calib *sum, struct sl_calib *one, const uint8_t *bytes,
                          size_t each)
{
    static double w[CLASSES * WIDTH];
    double lambda;
    struct sl_err err;
    bool ok = true;
    sl_calib_clear(sum);
    for (size_t k = 0; ok && k < CLIENTS; k++) {
        ok = good(sl_calib_read(one, bytes + k * each, each, &err), &err);
        sl_calib_merge(sum, one);
    }
    return ok && good(sl_calib_solve(sum, 1e-6 * (double)sum->n, NULL, w, &lambda, &err), &err);
}

static bool measure_coordinator(void)
{
    struct sl_calib_shape s = {.width = WIDTH, .classes = CLASSES};
    struct sl_calib sum = {0}, one = {0};
    struct sl_err err;
    size_t each = (size_t)sl_calib_bytes(&s);
    uint8_t *bytes = malloc(CLIENTS * each);
    bool ok = bytes != NULL && good(sl_calib_init(&sum, &s, &err), &err) &&
              good(sl_calib_init(&one, &s, &err), &err);
    for (size_t k = 0; ok && k < CLIENTS; k++)
        ok = make_client(k, &one, bytes + k * each);
    double t[TURNS];
    for (int turn = 0; ok && turn < TURNS; turn++) {
        double a = now_s();
        ok = sum_and_solve(&sum, &one, bytes, each);
        t[turn] = now_s() - a;
    }
    if (ok)
        printf("%d clients, width %d, %d classes: sum and solution %.0f ms (goal 1000)\n", CLIENTS,
               WIDTH, CLASSES, median(t, TURNS) * 1e3);
    sl_calib_deinit(&sum);
    sl_calib_deinit(&one);
    free(bytes);
    return ok;
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"lenet", "mlp", "cnn", "resnet8"};
    bool ok = true;
    sl_accel_init();
    for (int i = 0; ok && argc == 1 && i < 4; i++)
        ok = measure_client(all[i]);
    for (int i = 1; ok && i < argc; i++)
        ok = measure_client(argv[i]);
    return ok && measure_coordinator() ? 0 : 1;
}

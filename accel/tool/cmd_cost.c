/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_cost.c - what a unit counts for one training step of a model: a JSON line for each
 * layer with products and each pass, and one for the sum. The step runs through the
 * engine on drawn values, so that the numbers are those a client reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/net.h"
#include "accel/tool/commands.h"
#include "accel/tool/unit_options.h"
#include "accel/units/fast.h"
#include "accel/units/rtn.h"
#include "common/mem.h"
#include "common/rng.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define BATCH_MAX 4096

struct job {
    const struct sl_tool_options *o;
    enum sl_tool_unit which;
    struct sl_tr_options tr;
    struct sl_fast_options fast;
    struct sl_rtn_options rtn;
    struct sl_model_spec spec;
    struct sl_model *model;
    struct sl_shape in;
    size_t batch;
    struct sl_arena arena;
    struct sl_net net;
    float *values, *grads, *x;
};

/* "1x28x28", "784" */
static enum sl_code read_input(struct job *j, struct sl_err *err)
{
    const char *text = j->o->value[SL_OPT_INPUT];
    const char *p = text == NULL ? "1x28x28" : text;
    j->in = (struct sl_shape){0};
    for (;;) {
        char *end;
        unsigned long v = strtoul(p, &end, 10);
        if (end == p || *p < '1' || *p > '9' || v > 65536 ||
            j->in.n_dims == SL_SHAPE_DIMS || (*end != 'x' && *end != '\0'))
            return sl_err_set(err, SL_E_USAGE,
                              "--input %.40s: not 1 to 3 numbers like 1x28x28", text);
        j->in.dim[j->in.n_dims++] = (uint32_t)v;
        if (*end == '\0')
            return SL_OK;
        p = end + 1;
    }
}

static enum sl_code read_model(struct job *j, struct sl_err *err)
{
    const char *name = j->o->value[SL_OPT_MODEL];
    struct sl_model_spec named = {0};
    int64_t classes = 10;
    if (name == NULL)
        return sl_err_set(err, SL_E_USAGE, "cost: --model NAME is missing");
    enum sl_code rc = read_input(j, err);
    if (rc == SL_OK)
        rc = sl_tool_int(j->o, SL_OPT_CLASSES, 1, 100000, 10, &classes, err);
    if (rc == SL_OK)
        rc = sl_model_spec_named(name, (uint32_t)classes, &named, err);
    if (rc != SL_OK)
        return rc;
    if (j->which == SL_TOOL_RTN) {
        rc = sl_model_spec_ternary(&named, &j->spec, err);
        sl_model_spec_deinit(&named);
    } else {
        j->spec = named;
    }
    if (rc == SL_OK)
        rc = sl_model_new(&j->spec, &j->in, (uint32_t)classes, SL_LOSS_SOFTMAX_CE,
                          &j->model, err);
    return rc == SL_OK ? rc : sl_err_wrap(err, rc, "model %s", name);
}

static enum sl_code read_unit(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option tr[] = {SL_OPT_UNIT,    SL_OPT_MODEL, SL_OPT_INPUT,
                                             SL_OPT_CLASSES, SL_OPT_BATCH, SL_OPT_BITS_X,
                                             SL_OPT_BITS_W,  SL_OPT_G,     SL_OPT_K,
                                             SL_OPT_S,       SL_OPT_ENC};
    static const enum sl_tool_option fast[] = {SL_OPT_UNIT,    SL_OPT_MODEL, SL_OPT_INPUT,
                                               SL_OPT_CLASSES, SL_OPT_BATCH, SL_OPT_M,
                                               SL_OPT_E,       SL_OPT_G};
    static const enum sl_tool_option others[] = {SL_OPT_UNIT, SL_OPT_MODEL, SL_OPT_INPUT,
                                                 SL_OPT_CLASSES, SL_OPT_BATCH};
    struct sl_bfp_options b;
    const char *name = sl_tool_unit_name(j->which);
    enum sl_code rc;
    switch (j->which) {
    case SL_TOOL_TR:
        rc = sl_tool_allow(j->o, name, tr, COUNT(tr), err);
        return rc == SL_OK ? sl_tool_tr_options(j->o, &j->tr, err) : rc;
    case SL_TOOL_FAST:
        rc = sl_tool_allow(j->o, name, fast, COUNT(fast), err);
        if (rc == SL_OK)
            rc = sl_tool_bfp_options(j->o, SL_OPT_M, SL_OPT_ROUND, SL_OPT_KEY, &b, err);
        if (rc != SL_OK)
            return rc;
        j->fast = sl_fast_defaults();
        j->fast.g = b.g;
        j->fast.e = b.e;
        if (j->o->value[SL_OPT_M] != NULL) {
            j->fast.precision = SL_FAST_FIXED;
            j->fast.m[SL_FAST_W] = j->fast.m[SL_FAST_A] = j->fast.m[SL_FAST_G] = b.m;
        }
        return sl_fast_check(&j->fast, err);
    case SL_TOOL_FP32:
    case SL_TOOL_RTN:
        break;
    }
    return sl_tool_allow(j->o, name, others, COUNT(others), err);
}

static enum sl_code plan(struct job *j, uint32_t cpu, struct sl_err *err)
{
    const struct sl_matmul_unit *unit = sl_matmul_unit_find(sl_tool_unit_name(j->which));
    struct sl_taker cost = {0};
    size_t values = j->model->layout.n_values;
    j->net.unit.options =
        (struct sl_unit_options){.tr = &j->tr, .fast = &j->fast, .rtn = &j->rtn};
    sl_net_plan(&j->net, j->model, j->batch, unit, cpu, &cost);
    j->values = sl_calloc(values, sizeof(float));
    j->grads = sl_calloc(values, sizeof(float));
    j->x = sl_calloc(j->batch * j->model->input_size, sizeof(float));
    if (j->values == NULL || j->grads == NULL || j->x == NULL ||
        !sl_arena_init(&j->arena, cost.bytes))
        return sl_err_set(err, SL_E_NOMEM, "cost: %zu bytes", cost.bytes);
    sl_net_plan(&j->net, j->model, j->batch, unit, cpu,
                &(struct sl_taker){.arena = &j->arena});
    return SL_OK;
}

static void step(struct job *j)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = 1, .purpose = SL_RNG_TEST});
    for (size_t i = 0; i < j->batch * j->model->input_size; i++)
        j->x[i] = 2.0f * sl_rng_f32(&r) - 1.0f;
    sl_model_init_uniform(j->model, 1, j->values);
    struct sl_pass_ctx c = sl_net_pass(&j->net, j->values);
    c.train = true;
    c.n = j->batch;
    c.grads = j->grads;
    sl_net_forward(&c, j->x);
    float *dy = sl_net_output_gradient(&j->net);
    for (size_t i = 0; i < j->batch * j->model->output_size; i++)
        dy[i] = 2.0f * sl_rng_f32(&r) - 1.0f;
    sl_net_backward(&c, j->x, false);
}

/* In the unit's own measure: passes and bits of FAST, term pairs and bits of TR, and
 * single-precision multiply-adds. */
static double energy(const struct job *j, const struct sl_unit_ledger *l, int pass)
{
    struct sl_unit_ledger one = {0};
    one.work[pass] = l->work[pass];
    one.bits[pass] = l->bits[pass];
    if (j->which == SL_TOOL_TR && pass == SL_PASS_FORWARD)
        return sl_tr_energy(&j->tr, &one);
    if (j->which == SL_TOOL_FAST)
        return sl_fast_energy(&j->fast, &one);
    one.macs[pass] = l->macs[pass];
    one.ternary_macs = pass == SL_PASS_FORWARD ? l->ternary_macs : 0;
    return sl_rtn_energy(&j->rtn, &one);
}

static const char *const pass_names[] = {"forward", "input_gradient", "weight_gradient"};

static void print_line(const struct job *j, const char *layer,
                       const struct sl_unit_ledger *l, int pass, double units)
{
    printf("{\"unit\":\"%s\",\"layer\":\"%s\",\"pass\":\"%s\",\"calls\":%llu,"
           "\"macs\":%llu,\"work\":%llu,\"cycles\":%llu,\"conversions\":%llu,"
           "\"bits\":%llu,\"energy\":%.6g}\n",
           sl_tool_unit_name(j->which), layer, pass_names[pass],
           (unsigned long long)l->calls[pass], (unsigned long long)l->macs[pass],
           (unsigned long long)l->work[pass], (unsigned long long)l->cycles[pass],
           (unsigned long long)l->conversions[pass], (unsigned long long)l->bits[pass],
           units);
}

static void print(const struct job *j)
{
    double sum[SL_PASSES] = {0};
    for (size_t i = 0; i < j->model->n_layers; i++) {
        const struct sl_layer *l = &j->model->layers[i];
        const struct sl_unit_ledger *ledger = &j->net.ledger[i];
        for (int pass = 0; pass < SL_PASSES; pass++)
            if (ledger->calls[pass] > 0) {
                double units = energy(j, ledger, pass);
                sum[pass] += units;
                print_line(j, l->spec.name, ledger, pass, units);
            }
    }
    for (int pass = 0; pass < SL_PASSES; pass++)
        if (j->net.unit.ledger.calls[pass] > 0)
            print_line(j, "all", &j->net.unit.ledger, pass, sum[pass]);
}

enum sl_code sl_tool_cost(const struct sl_tool_options *o, uint32_t cpu,
                          struct sl_err *err)
{
    struct job j = {.o = o, .rtn = sl_rtn_defaults()};
    int64_t batch = 32;
    enum sl_code rc = sl_tool_unit(o, &j.which, err);
    if (rc == SL_OK && o->n_paths != 0)
        rc = sl_err_set(err, SL_E_USAGE, "cost takes no file");
    if (rc == SL_OK)
        rc = read_unit(&j, err);
    if (rc == SL_OK)
        rc = sl_tool_int(o, SL_OPT_BATCH, 1, BATCH_MAX, 32, &batch, err);
    j.batch = (size_t)batch;
    if (rc == SL_OK)
        rc = read_model(&j, err);
    if (rc == SL_OK)
        rc = plan(&j, cpu, err);
    if (rc == SL_OK) {
        step(&j);
        print(&j);
    }
    free(j.values);
    free(j.grads);
    free(j.x);
    sl_arena_deinit(&j.arena);
    sl_model_free(j.model);
    sl_model_spec_deinit(&j.spec);
    return rc;
}

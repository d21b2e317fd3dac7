/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/train.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/kernels/cpu.h"
#include "accel/nn/loss.h"
#include "accel/nn/net.h"
#include "accel/nn/optim.h"
#include "common/mem.h"

#define MAX_BATCH ((size_t)1 << 20)
#define PART_VALUES_MAX ((size_t)INT32_MAX) /* of one activation: BLAS counts in int */

struct sl_trainer {
    const struct sl_model *model;
    struct sl_arena arena;
    struct sl_net net;
    size_t max_batch;
    float *values;    /* [n_values] as they stand */
    float *grads;     /* [n_params] */
    float *x;         /* [max_batch, input] */
    int32_t *labels;  /* [max_batch] */
    uint32_t *picked; /* [max_batch] indices into the set */
    struct sl_optim optim;

    /* the training that was begun */
    struct sl_train_spec spec;
    struct sl_samples samples;
    const float *start;
    struct sl_train_result result;
    uint64_t n_steps;        /* when it is done */
    uint32_t epoch;          /* next one */
    bool open;               /* begun, and no error since */
    uint32_t *order;         /* [order_room] */
    uint64_t *order_scratch; /* [2 * order_room] */
    size_t order_room;
};

/* --- life
 * ----------------------------------------------------------------------------------- */

/* Parameters that weight decay leaves alone, as ranges. */
static void plan_exempt(struct sl_trainer *t, struct sl_taker *k)
{
    const struct sl_model *m = t->model;
    size_t n = 0;
    for (size_t i = 0; i < m->layout.n_tensors; i++)
        n += m->start[i].no_decay;
    struct sl_optim_range *range = sl_take(k, n * sizeof(*range));
    t->optim.exempt = range;
    t->optim.n_exempt = n;
    for (size_t i = 0; i < m->layout.n_tensors && range != NULL; i++)
        if (m->start[i].no_decay)
            *range++ = (struct sl_optim_range){m->layout.tensors[i].offset,
                                               m->layout.tensors[i].size};
}

static void plan(struct sl_trainer *t, const struct sl_trainer_options *o,
                 struct sl_taker *k)
{
    const struct sl_model *m = t->model;
    const struct sl_matmul_unit *unit = o->unit == NULL ? &sl_matmul_fp32 : o->unit;
    t->net.unit.options = o->unit_options;
    sl_net_plan(&t->net, m, o->max_batch, unit, sl_cpu_usable() & ~o->cpu_off, k);
    t->values = sl_take(k, m->layout.n_values * sizeof(float));
    t->grads = sl_take(k, m->n_params * sizeof(float));
    t->x = sl_take(k, o->max_batch * m->input_size * sizeof(float));
    t->labels = sl_take(k, o->max_batch * sizeof(*t->labels));
    t->picked = sl_take(k, o->max_batch * sizeof(*t->picked));
    plan_exempt(t, k);
    t->optim.slots[0] = sl_take(k, m->n_params * sizeof(float));
    t->optim.slots[1] = sl_take(k, m->n_params * sizeof(float));
}

static enum sl_code check_options(const struct sl_model *m,
                                  const struct sl_trainer_options *o, struct sl_err *err)
{
    size_t widest = m->input_size;
    if (o->max_batch < 1 || o->max_batch > MAX_BATCH)
        return sl_err_set(err, SL_E_RANGE, "max_batch %zu (1 to %zu)", o->max_batch,
                          MAX_BATCH);
    for (size_t i = 0; i < m->n_layers; i++)
        widest = m->layers[i].out_size > widest ? m->layers[i].out_size : widest;
    if (widest > PART_VALUES_MAX / o->max_batch)
        return sl_err_set(err, SL_E_RANGE,
                          "max_batch %zu with activations of %zu values (at most %zu)",
                          o->max_batch, widest, PART_VALUES_MAX / widest);
    return SL_OK;
}

enum sl_code sl_trainer_new(const struct sl_model *m, const struct sl_trainer_options *o,
                            struct sl_trainer **ret, struct sl_err *err)
{
    struct sl_taker cost = {0};
    enum sl_code rc = check_options(m, o, err);
    if (rc != SL_OK)
        return rc;
    struct sl_trainer *t = sl_calloc(1, sizeof(*t));
    if (t == NULL)
        return sl_err_set(err, SL_E_NOMEM, "trainer");
    t->model = m;
    t->max_batch = o->max_batch;
    plan(t, o, &cost);
    if (!sl_arena_init(&t->arena, cost.bytes)) {
        free(t);
        return sl_err_set(err, SL_E_NOMEM, "trainer of %zu bytes", cost.bytes);
    }
    plan(t, o, &(struct sl_taker){.arena = &t->arena});
    *ret = t;
    return SL_OK;
}

void sl_trainer_free(struct sl_trainer *t)
{
    if (t == NULL)
        return;
    sl_arena_deinit(&t->arena);
    free(t->order);
    free(t->order_scratch);
    free(t);
}

void sl_trainer_set_lr(struct sl_trainer *t, double lr)
{
    assert(lr >= 0.0 && lr <= 1e6);
    t->optim.lr = lr;
}

size_t sl_trainer_bytes(const struct sl_trainer *t)
{
    return t->arena.capacity;
}

void sl_trainer_set_unit_options(struct sl_trainer *t, const struct sl_unit_options *o)
{
    t->net.unit.options = *o;
}

const struct sl_unit_ledger *sl_trainer_ledger(const struct sl_trainer *t)
{
    return &t->net.unit.ledger;
}

const struct sl_unit_ledger *sl_trainer_layer_ledger(const struct sl_trainer *t, size_t i)
{
    return i < t->model->n_layers ? &t->net.ledger[i] : NULL;
}

/* --- checks
 * --------------------------------------------------------------------------------- */

static enum sl_code check_samples(const struct sl_model *m, const struct sl_samples *s,
                                  struct sl_err *err)
{
    const uint32_t got[SL_SHAPE_DIMS] = {s->set->channels, s->set->height, s->set->width};
    unsigned missing = SL_SHAPE_DIMS - m->input.n_dims;
    char text[SL_SHAPE_TEXT];
    for (unsigned d = 0; d < SL_SHAPE_DIMS; d++)
        if (got[d] != (d < missing ? 1 : m->input.dim[d - missing]))
            return sl_err_set(err, SL_E_INPUT,
                              "samples of [%u, %u, %u], the model takes %s", got[0],
                              got[1], got[2], sl_shape_text(&m->input, text));
    if (s->set->n_classes > m->n_classes)
        return sl_err_set(err, SL_E_INPUT, "samples of %u classes, the model has %u",
                          s->set->n_classes, m->n_classes);
    if (s->n == 0 || (s->index == NULL && s->n > s->set->n))
        return sl_err_set(err, SL_E_INPUT, "%zu samples of a set of %zu (at least 1)",
                          s->n, s->set->n);
    if (s->n > UINT32_MAX)
        return sl_err_set(err, SL_E_INPUT, "%zu samples (at most %u)", s->n, UINT32_MAX);
    return SL_OK;
}

static enum sl_code check_number(const char *name, double v, double lo, double hi,
                                 struct sl_err *err)
{
    if (!(v >= lo && v <= hi))
        return sl_err_set(err, SL_E_RANGE, "%s %g (%g to %g)", name, v, lo, hi);
    return SL_OK;
}

static enum sl_code check_spec(const struct sl_train_spec *s, struct sl_err *err)
{
    const struct {
        const char *name;
        double value, lo, hi;
    } numbers[] = {
        {"lr", s->lr, 0.0, 1e6},
        {"momentum", s->momentum, 0.0, 1.0},
        {"weight_decay", s->weight_decay, 0.0, 1e3},
        {"mu", s->mu, 0.0, 1e6},
        {"beta1", s->optimizer == SL_OPT_ADAM ? s->beta1 : 0.0, 0.0, 0.9999999},
        {"beta2", s->optimizer == SL_OPT_ADAM ? s->beta2 : 0.0, 0.0, 0.9999999},
        {"eps", s->optimizer == SL_OPT_ADAM ? s->eps : 1.0, 1e-30, 1e3},
    };
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && rc == SL_OK; i++)
        rc = check_number(numbers[i].name, numbers[i].value, numbers[i].lo, numbers[i].hi,
                          err);
    if (rc == SL_OK && s->local_steps < -1)
        return sl_err_set(err, SL_E_RANGE, "local_steps %" PRId64 " (-1 or more)",
                          s->local_steps);
    if (rc == SL_OK && s->local_steps == -1 && s->epochs == 0)
        return sl_err_set(err, SL_E_RANGE, "epochs 0 (at least 1)");
    return rc;
}

static size_t batch_of(const struct sl_train_spec *s, size_t n)
{
    return s->batch_size == 0 || s->batch_size > n ? n : s->batch_size;
}

uint64_t sl_train_steps(const struct sl_train_spec *spec, size_t n)
{
    if (spec->local_steps >= 0)
        return (uint64_t)spec->local_steps;
    size_t batch = batch_of(spec, n);
    return (uint64_t)spec->epochs * ((n + batch - 1) / batch);
}

/* --- one step
 * ------------------------------------------------------------------------------- */

/* Samples at places first .. first + n - 1 of the order (NULL: as they come) to x and
 * labels. */
static void gather(struct sl_trainer *t, const struct sl_samples *s,
                   const uint32_t *order, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t place = order == NULL ? first + i : order[first + i];
        t->picked[i] = s->index == NULL ? (uint32_t)place : s->index[place];
    }
    sl_dataset_gather(s->set, t->picked, n, t->x, t->labels);
}

/* Progress of the run in steps of 1/65536 of a round. */
#define ROUND_STEPS 65536

static void set_progress(struct sl_trainer *t)
{
    const struct sl_train_spec *s = &t->spec;
    uint64_t in_round = t->n_steps == 0 ? 0 : ROUND_STEPS * t->result.steps / t->n_steps;
    bool known = s->round < s->rounds;
    t->net.unit.place.iteration =
        (known ? (uint64_t)s->round * ROUND_STEPS : 0) + in_round;
    t->net.unit.place.n_iterations = (known ? s->rounds : 1) * (uint64_t)ROUND_STEPS;
}

/* Loss (sum) and gradient of the mean loss of a batch, in parts of at most max_batch. */
static double batch_gradient(struct sl_trainer *t, size_t first, size_t batch)
{
    struct sl_loss_sums sums = {0};
    struct sl_pass_ctx c = sl_net_pass(&t->net, t->values);
    c.train = true;
    c.stats = t->values;
    c.grads = t->grads;
    c.draw = (struct sl_rng_id){.seed = t->spec.seed,
                                .client = t->spec.client,
                                .round = t->spec.round,
                                .step = (uint32_t)t->result.steps};
    c.unit->draw = c.draw;
    c.unit->draw.purpose = SL_RNG_ROUNDING;
    c.unit->noise = t->result.noise;
    set_progress(t);
    for (size_t done = 0; done < batch; done += c.n) {
        c.first = done;
        c.n = batch - done < t->max_batch ? batch - done : t->max_batch;
        c.accumulate = done > 0;
        gather(t, &t->samples, t->order, first + done, c.n);
        const float *out = sl_net_forward(&c, t->x);
        sl_loss(t->model->loss, c.k, out, t->labels, c.n, t->model->n_classes,
                1.0f / (float)batch, sl_net_output_gradient(&t->net), &sums);
        sl_net_backward(&c, t->x, false);
    }
    t->result.noise = c.unit->noise;
    return sums.loss;
}

static enum sl_code step(struct sl_trainer *t, size_t first, size_t batch,
                         struct sl_err *err)
{
    const struct sl_elem_ops *e = &t->net.kernels.elem;
    size_t n = t->model->n_params;
    double loss = batch_gradient(t, first, batch);
    if (!isfinite(loss))
        return sl_err_set(err, SL_E_FAILED, "training diverged: loss %g at step %" PRIu64,
                          loss, t->result.steps);
    if (t->spec.hook != NULL)
        t->spec.hook(t->spec.hook_ctx, t->result.steps, t->values, t->grads, n);
    if (t->spec.mu > 0.0)
        e->proximal((float)t->spec.mu, t->values, t->start, t->grads, n);
    sl_optim_step(&t->optim, e, t->values, t->grads, n);
    t->net.unit.version++;
    if (t->result.steps == 0)
        t->result.first_loss = loss / (double)batch;
    t->result.steps++;
    t->result.samples_seen += batch;
    t->result.loss_sum += loss;
    return SL_OK;
}

/* --- training
 * ------------------------------------------------------------------------------- */

static enum sl_code make_order_room(struct sl_trainer *t, size_t n, struct sl_err *err)
{
    if (n <= t->order_room)
        return SL_OK;
    uint32_t *order = sl_calloc(n, sizeof(*order));
    uint64_t *scratch = sl_calloc(n, 2 * sizeof(*scratch));
    if (order == NULL || scratch == NULL) {
        free(order);
        free(scratch);
        return sl_err_set(err, SL_E_NOMEM, "order of %zu samples", n);
    }
    free(t->order);
    free(t->order_scratch);
    t->order = order;
    t->order_scratch = scratch;
    t->order_room = n;
    return SL_OK;
}

static void start_optimiser(struct sl_trainer *t)
{
    const struct sl_train_spec *s = &t->spec;
    t->optim.kind = s->optimizer;
    t->optim.lr = s->lr;
    t->optim.momentum = s->momentum;
    t->optim.weight_decay = s->weight_decay;
    t->optim.beta1 = s->beta1;
    t->optim.beta2 = s->beta2;
    t->optim.eps = s->eps;
    sl_optim_start(&t->optim);
}

enum sl_code sl_train_begin(struct sl_trainer *t, const float *start_values,
                            const struct sl_samples *samples,
                            const struct sl_train_spec *spec, struct sl_err *err)
{
    t->open = false;
    enum sl_code rc = check_samples(t->model, samples, err);
    if (rc == SL_OK)
        rc = check_spec(spec, err);
    if (rc != SL_OK)
        return rc;
    if (t->model->needs_whole_batch && batch_of(spec, samples->n) > t->max_batch)
        return sl_err_set(err, SL_E_RANGE,
                          "batch of %zu samples with batch norm (at most %zu here)",
                          batch_of(spec, samples->n), t->max_batch);
    rc = make_order_room(t, samples->n, err);
    if (rc != SL_OK)
        return rc;
    t->spec = *spec;
    t->samples = *samples;
    t->start = start_values;
    t->result = (struct sl_train_result){.noise = spec->noise};
    t->n_steps = sl_train_steps(spec, samples->n);
    t->epoch = 0;
    memcpy(t->values, start_values, t->model->layout.n_values * sizeof(float));
    t->net.unit.version++;
    start_optimiser(t);
    t->open = true;
    return SL_OK;
}

static void order_epoch(struct sl_trainer *t)
{
    if (t->spec.batch_size == 0) {
        for (size_t i = 0; i < t->samples.n; i++)
            t->order[i] = (uint32_t)i;
        return;
    }
    sl_sample_order(t->spec.order, t->spec.seed, t->spec.round, t->spec.client, t->epoch,
                    t->samples.n, t->order_scratch, t->order);
}

static enum sl_code run_epoch(struct sl_trainer *t, struct sl_err *err)
{
    size_t n = t->samples.n, batch = batch_of(&t->spec, n);
    order_epoch(t);
    for (size_t first = 0; first < n && !sl_train_done(t); first += batch) {
        enum sl_code rc = step(t, first, n - first < batch ? n - first : batch, err);
        if (rc != SL_OK)
            return rc;
    }
    t->epoch++;
    return SL_OK;
}

/* A fixed head is the same after each training, byte for byte (spherefed.md, S1). */
static enum sl_code check_fixed(const struct sl_trainer *t, struct sl_err *err)
{
    size_t moving = sl_model_n_travelling(t->model);
    size_t n = t->model->layout.n_values - moving;
    if (memcmp(t->values + moving, t->start + moving, n * sizeof(float)) != 0)
        return sl_err_set(err, SL_E_BUG, "training moved the fixed head");
    return SL_OK;
}

enum sl_code sl_train_run(struct sl_trainer *t, uint32_t n_epochs,
                          struct sl_train_result *ret_result, struct sl_err *err)
{
    if (!t->open)
        return sl_err_set(err, SL_E_BUG, "training run without a begin");
    enum sl_code rc = SL_OK;
    for (uint32_t e = 0; e < n_epochs && !sl_train_done(t) && rc == SL_OK; e++)
        rc = run_epoch(t, err);
    if (rc == SL_OK &&
        !t->net.kernels.elem.all_finite(t->values, t->model->layout.n_values))
        rc = sl_err_set(err, SL_E_FAILED,
                        "training diverged: a value is not finite after step %" PRIu64,
                        t->result.steps);
    if (rc == SL_OK)
        rc = check_fixed(t, err);
    if (rc != SL_OK) {
        t->open = false;
        return rc;
    }
    *ret_result = t->result;
    return SL_OK;
}

bool sl_train_done(const struct sl_trainer *t)
{
    return t->result.steps >= t->n_steps;
}

const float *sl_train_values(const struct sl_trainer *t)
{
    return t->values;
}

enum sl_code sl_train(struct sl_trainer *t, const float *start_values,
                      const struct sl_samples *samples, const struct sl_train_spec *spec,
                      float *ret_values, struct sl_train_result *ret_result,
                      struct sl_err *err)
{
    enum sl_code rc = sl_train_begin(t, start_values, samples, spec, err);
    if (rc == SL_OK)
        rc = sl_train_run(t, UINT32_MAX, ret_result, err);
    if (rc == SL_OK)
        memcpy(ret_values, t->values, t->model->layout.n_values * sizeof(float));
    return rc;
}

/* --- evaluation
 * ----------------------------------------------------------------------------- */

/* A pass over values in evaluation mode, as at a run's end. */
static struct sl_pass_ctx look(struct sl_trainer *t, const float *values)
{
    struct sl_pass_ctx c = sl_net_pass(&t->net, values);
    t->net.unit.version++; /* values are the caller's and may be new */
    c.unit->draw = (struct sl_rng_id){0};
    c.unit->place.iteration = c.unit->place.n_iterations = 1;
    return c;
}

enum sl_code sl_evaluate(struct sl_trainer *t, const float *values,
                         const struct sl_samples *samples, struct sl_eval_result *ret,
                         struct sl_err *err)
{
    struct sl_loss_sums sums = {0};
    enum sl_code rc = check_samples(t->model, samples, err);
    if (rc != SL_OK)
        return rc;
    struct sl_pass_ctx c = look(t, values);
    for (size_t done = 0; done < samples->n; done += c.n) {
        c.n = samples->n - done < t->max_batch ? samples->n - done : t->max_batch;
        gather(t, samples, NULL, done, c.n);
        const float *out = sl_net_forward(&c, t->x);
        sl_loss(t->model->loss, c.k, out, t->labels, c.n, t->model->n_classes, 1.0f,
                sl_net_output_gradient(&t->net), &sums);
    }
    if (!isfinite(sums.loss))
        return sl_err_set(err, SL_E_FAILED, "evaluation: loss %g over %zu samples",
                          sums.loss, samples->n);
    *ret = (struct sl_eval_result){
        .n = samples->n, .correct = sums.correct, .loss_sum = sums.loss};
    return SL_OK;
}

enum sl_code sl_features(struct sl_trainer *t, const float *values,
                         const struct sl_samples *samples, sl_feature_sink sink, void *ctx,
                         struct sl_err *err)
{
    struct sl_head_info head;
    enum sl_code rc = check_samples(t->model, samples, err);
    if (rc != SL_OK)
        return rc;
    if (!sl_model_head(t->model, &head))
        return sl_err_set(err, SL_E_INPUT, "the model's last layer is no head");
    struct sl_pass_ctx c = look(t, values);
    for (size_t done = 0; done < samples->n; done += c.n) {
        c.n = samples->n - done < t->max_batch ? samples->n - done : t->max_batch;
        gather(t, samples, NULL, done, c.n);
        sink(ctx, sl_net_sequence_forward(&c, 0, head.layer, t->x), t->labels, c.n);
    }
    return SL_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* train.h - local training and evaluation of a model on one thread.
 * A trainer owns one arena with activations, gradients, optimiser state and scratch,
 * sized when it is made; a step allocates nothing. It borrows the model and the unit.
 * Results are a function of (values, samples, spec, max_batch, BLAS kernel): neither
 * threads, nor earlier use of the trainer, nor the CPU mask change a bit. Thread: one at
 * a time per trainer; any number of trainers of the same model side by side. Never reads
 * a clock, never logs. */
#ifndef SL_ACCEL_NN_TRAIN_H
#define SL_ACCEL_NN_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/nn/model.h"
#include "accel/units/matmul.h"
#include "common/dataset.h"
#include "common/error.h"
#include "common/plan.h"

/* Borrowed samples: index[0..n-1] into set, each below set->n. index NULL: the first n.
 */
struct sl_samples {
    const struct sl_dataset *set;
    const uint32_t *index;
    size_t n; /* >= 1 */
};

/* Called after the gradients of a step are complete (weight decay and proximal term not
 * yet added) and before the optimiser moves the values; may change grads[0..n_params-1].
 * step counts from 0 since the start of this training. */
typedef void (*sl_gradient_hook)(void *ctx, uint64_t step, const float *values,
                                 float *grads, size_t n_params);

struct sl_train_spec {
    enum sl_optimizer optimizer;
    double lr;
    double momentum, weight_decay; /* momentum: SGD */
    double beta1, beta2, eps;      /* Adam */
    double mu;           /* FedProx: adds mu (w - w_start) to the gradient; 0 = none */
    uint32_t batch_size; /* 0 = full batch, in natural order */
    uint32_t epochs;     /* >= 1 unless local_steps decides */
    int64_t local_steps; /* -1: epochs decide; N: as many steps, through as many
                            epochs as needed (0 = none) */
    enum sl_order order;
    uint64_t seed;          /* of the run: order of samples, dropout, rounding */
    uint32_t round, client; /* the same */
    uint32_t rounds; /* of the run, for units whose precision follows its progress; 0:
                        this training is all there is */
    uint64_t noise;  /* where the client's noise registers stand (units/matmul.h) */
    sl_gradient_hook hook; /* NULL = none */
    void *hook_ctx;
};

struct sl_train_result {
    uint64_t steps;
    uint64_t samples_seen;
    double loss_sum;   /* sum over steps of the step's mean loss times its samples */
    double first_loss; /* mean loss of the first step; 0 without steps */
    uint64_t noise;    /* where the noise registers stand now */
};

struct sl_eval_result {
    uint64_t n, correct; /* correct: the first largest output is the label */
    double loss_sum;     /* over samples; for softmax and squared loss alike */
};

struct sl_trainer_options {
    size_t
        max_batch; /* >= 1; a larger batch is processed in parts whose gradients add up */
    const struct sl_matmul_unit *unit;   /* NULL = fp32 */
    struct sl_unit_options unit_options; /* what they point to outlives the trainer */
    uint32_t cpu_off; /* SL_CPU_* not to use (kernels/cpu.h); 0 = use what is there */
};

struct sl_trainer;

/* SL_E_RANGE for max_batch 0 or beyond 2^20, SL_E_NOMEM. *m must outlive the trainer. */
enum sl_code sl_trainer_new(const struct sl_model *m, const struct sl_trainer_options *o,
                            struct sl_trainer **ret, struct sl_err *err);
void sl_trainer_free(struct sl_trainer *t); /* NULL allowed */
/* Other options for the unit from now on, so that one model can be evaluated at several
 * budgets. What o points to outlives the trainer or the next call. */
void sl_trainer_set_unit_options(struct sl_trainer *t, const struct sl_unit_options *o);
/* The learning rate of the steps from now on, until the next begin; a gradient hook may
 * call it for its own step. Outside 0 to 1e6 is a bug. */
void sl_trainer_set_lr(struct sl_trainer *t, double lr);
size_t sl_trainer_bytes(
    const struct sl_trainer *t); /* of its arena; what is never used stays
                                    unmapped (optimiser state of plain SGD) */
/* What the unit did since the trainer was made. */
const struct sl_unit_ledger *sl_trainer_ledger(const struct sl_trainer *t);
/* The same for layer i of the model's spec, residuals' bodies counted in their place;
 * zeros for a layer without products, NULL beyond the last. */
const struct sl_unit_ledger *sl_trainer_layer_ledger(const struct sl_trainer *t,
                                                     size_t i);

/* Trains from start_values and writes the result to ret_values (both n_values; may not
 * overlap). Optimiser state starts fresh. Outputs stay untouched on failure. SL_E_INPUT:
 * the samples' shape or classes do not fit the model. SL_E_RANGE: a number of the spec; a
 * full batch that does not fit max_batch in a model with batch norm. SL_E_FAILED: the
 * loss or a value left the finite numbers (the message names step and loss). SL_E_NOMEM.
 */
enum sl_code sl_train(struct sl_trainer *t, const float *start_values,
                      const struct sl_samples *samples, const struct sl_train_spec *spec,
                      float *ret_values, struct sl_train_result *ret_result,
                      struct sl_err *err);

/* The same in parts: begin, then run any number of epochs at a time, with the same bits
 * as one sl_train. start_values, samples' set and index and the hook's context stay
 * borrowed until the next begin or free. begin may allocate (order of samples), run never
 * does. */
enum sl_code sl_train_begin(struct sl_trainer *t, const float *start_values,
                            const struct sl_samples *samples,
                            const struct sl_train_spec *spec, struct sl_err *err);
/* Runs up to n_epochs further epochs (UINT32_MAX = all that is left). *ret_result counts
 * from begin. After an error nothing runs until the next begin. */
enum sl_code sl_train_run(struct sl_trainer *t, uint32_t n_epochs,
                          struct sl_train_result *ret_result, struct sl_err *err);
bool sl_train_done(const struct sl_trainer *t);
/* The values as they stand; borrowed, valid until the next begin, run or free. */
const float *sl_train_values(const struct sl_trainer *t);

/* Steps of a whole training of n samples under spec. */
uint64_t sl_train_steps(const struct sl_train_spec *spec, size_t n);

/* Loss and hits of values on samples: dropout off, running statistics, batches in order,
 * sums in double. Leaves a training that was begun as it is. SL_E_INPUT, SL_E_FAILED
 * (loss not finite). */
enum sl_code sl_evaluate(struct sl_trainer *t, const float *values,
                         const struct sl_samples *samples, struct sl_eval_result *ret,
                         struct sl_err *err);

/* What stands in front of the head (sl_model_head), batch by batch in order: h [n, width] and labels [n],
 * borrowed. Evaluation mode, as sl_evaluate. SL_E_INPUT: also a model without such a head. */
typedef void (*sl_feature_sink)(void *ctx, const float *h, const int32_t *labels, size_t n);
enum sl_code sl_features(struct sl_trainer *t, const float *values,
                         const struct sl_samples *samples, sl_feature_sink sink, void *ctx,
                         struct sl_err *err);

/* The order in which epoch `epoch` visits n samples: ret_order[0..n-1]. philox:
 * Fisher-Yates from the stream (seed, SL_RNG_ORDER, client, round, step = epoch). bench:
 * stable argsort of splitmix64 outputs started at seed << 48 ^ round << 32 ^ client << 16
 * ^ epoch, as batch_order of bench/fl_common.py. scratch: 2 n words; NULL allowed for
 * philox. */
void sl_sample_order(enum sl_order order, uint64_t seed, uint32_t round, uint32_t client,
                     uint32_t epoch, size_t n, uint64_t *scratch, uint32_t *ret_order);

#endif

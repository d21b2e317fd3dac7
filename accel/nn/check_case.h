/* SPDX-License-Identifier: Apache-2.0 */
/* check_case.h - one layer vector under test; for accel/nn/check_*.c only. */
#ifndef SL_ACCEL_NN_CHECK_CASE_H
#define SL_ACCEL_NN_CHECK_CASE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/nn/net.h"
#include "common/error.h"

#define SL_CASE_FIELDS 32

/* An array of the case's file, as its manifest describes it. */
struct sl_case_field {
    char name[64];
    unsigned n_dims;
    size_t dim[5], n;
    double tolerance; /* 0 for inputs */
    void *data;       /* owned; float32, float64 or int32 */
    char dtype;       /* 'f' float32, 'd' float64, 'i' int32 */
    bool compared;
};

struct sl_case {
    const char *name, *kind;
    const json_t *params;
    struct sl_case_field field[SL_CASE_FIELDS];
    size_t n_fields;
    uint32_t cpu; /* kernels to use */
    bool failed;
    char failure[256]; /* "field, index, expected, got" of the first difference */
};

/* Reads the arrays that `entry` (an object of the manifest's `cases`) describes. */
enum sl_code sl_case_load(const char *dir, const json_t *entry, struct sl_case *ret,
                          struct sl_err *err);
void sl_case_deinit(struct sl_case *c);

/* NULL when there is none; the second notes its absence, or another type, as the failure.
 */
const struct sl_case_field *sl_case_find(const struct sl_case *c, const char *name);
const struct sl_case_field *sl_case_need(struct sl_case *c, const char *name, char dtype);

/* Notes the first failure only. */
void sl_case_fail(struct sl_case *c, const char *field, const char *index,
                  const char *expected, const char *got);

/* Compares with the field's values from `first` on; a field that is not there is a
 * failure. */
void sl_case_expect(struct sl_case *c, const char *field, size_t first, const float *got,
                    size_t n);
void sl_case_expect_number(struct sl_case *c, const char *field, size_t index,
                           double got);

/* Is there a label 0..classes-1 for each of n rows? Else notes a failure. */
bool sl_case_labels_fit(struct sl_case *c, const struct sl_case_field *labels, size_t n,
                        size_t classes);

/* A number of params, or the fallback. */
double sl_case_param(const struct sl_case *c, const char *name, double fallback);

/* A model on its own buffers. */
struct sl_case_rig {
    struct sl_model *model;
    struct sl_arena arena;
    struct sl_net net;
    size_t n; /* samples */
    float *values, *grads;
};
enum sl_code sl_case_rig_open(const struct sl_case *c, const struct sl_model_spec *spec,
                              const struct sl_shape *in, size_t n,
                              struct sl_case_rig *ret, struct sl_err *err);
void sl_case_rig_close(struct sl_case_rig *r);

/* Shape of a sample when the first dimension of the field is the batch. */
struct sl_shape sl_case_sample_shape(const struct sl_case_field *f);

/* The runs of each kind; note differences in c. */
void sl_case_run_layer(struct sl_case *c);
void sl_case_run_loss(struct sl_case *c);
void sl_case_run_sphere_head(struct sl_case *c);
void sl_case_run_optimizer(struct sl_case *c);
void sl_case_run_net(struct sl_case *c);

#endif

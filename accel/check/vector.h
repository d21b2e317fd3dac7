/* SPDX-License-Identifier: Apache-2.0 */
/* vector.h - runs golden vectors of the emulated formats (tests/golden/accel) through the
 * product's own code. A folder holds a manifest.json whose `cases` list {file, kind,
 * fields: {NAME: {dtype, shape}}} and a stored .npz a case: in_* inputs, p_* parameters,
 * out_* expected outputs. The name of a case is its file's without ".npz". Compared are
 * bits, without tolerance. Each family of formats lists its kinds in a file of its own;
 * a kind runs once per kernel variant of this CPU. Thread: any. Never changes a file. */
#ifndef SL_ACCEL_CHECK_VECTOR_H
#define SL_ACCEL_CHECK_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "accel/check/cases.h"
#include "common/error.h"
#include "common/npy.h"

#define SL_VECTOR_ARRAYS 32
#define SL_VECTOR_ROOMS 32

/* An array of the case's file. Its values are copied out, aligned for any type. */
struct sl_vector_array {
    char name[64];
    struct sl_npy a;
    bool compared;
};

struct sl_vector {
    const char *name, *kind;
    struct sl_vector_array array[SL_VECTOR_ARRAYS];
    size_t n_arrays;
    void *room[SL_VECTOR_ROOMS];
    size_t n_rooms;
    uint32_t cpu; /* kernels to use (bits of kernels/cpu.h) */
    bool failed;
    char failure[256]; /* "field, index, expected, got" of the first difference */
};

struct sl_vector_kind {
    const char *kind;                 /* NULL ends a list */
    void (*run)(struct sl_vector *v); /* computes, and compares by the functions below */
};

extern const struct sl_vector_kind sl_vector_kinds_fast[]; /* hash64, fast_* */
extern const struct sl_vector_kind sl_vector_kinds_tr[];
extern const struct sl_vector_kind sl_vector_kinds_rtn[];

/* Kind `reject`, by p_format: notes a failure when the family's converter takes in_x. */
void sl_vector_reject_fast(struct sl_vector *v);
void sl_vector_reject_tr(struct sl_vector *v);
void sl_vector_reject_rtn(struct sl_vector *v);

/* For runs: the array of that name, or NULL (need also notes the failure: absent, or of
 * another dtype). */
const struct sl_npy *sl_vector_find(const struct sl_vector *v, const char *name);
const struct sl_npy *sl_vector_need(struct sl_vector *v, const char *name,
                                    enum sl_npy_dtype dtype);
/* Value i of an array of integers; 0 and a failure when it is not there. */
int64_t sl_vector_int(struct sl_vector *v, const char *name, size_t i);
uint64_t sl_vector_u64(struct sl_vector *v, const char *name, size_t i);

/* Compares got[0..n-1] with values first .. first + n - 1 of out array `name`, bit for
 * bit; marks it as compared. An array that is absent, shorter or of another dtype is a
 * failure. */
void sl_vector_expect(struct sl_vector *v, const char *name, size_t first,
                      enum sl_npy_dtype dtype, const void *got, size_t n);
/* The same for one integer, whatever integer type the array has. */
void sl_vector_expect_int(struct sl_vector *v, const char *name, size_t i, int64_t got);

/* n zeroed values of `size` bytes (at least one) that live until the run returns; NULL
 * and a failure without memory. At most SL_VECTOR_ROOMS a run. */
void *sl_vector_room(struct sl_vector *v, size_t n, size_t size);

/* Notes the first failure only. */
void sl_vector_fail(struct sl_vector *v, const char *field, const char *index,
                    const char *expected, const char *got);

/* Runs the cases of dir that c wants: a folder with a manifest.json, or a folder of such
 * folders. Prints `ok NAME` or `not ok NAME: field, index, expected, got` a line. A
 * missing or damaged file, a field that no run compared and an unknown kind are failures
 * of the case. SL_E_INPUT for a dir without manifests. */
enum sl_code sl_vector_check_dir(struct sl_cases *c, const char *dir, struct sl_err *err);

#endif

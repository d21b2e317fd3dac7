/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.h - the closed form of SphereFed's calibration (Dong et al. 2022, section 3.3): a client's
 * second moments of its features, their check, their sum, and the head that fits all clients' data best.
 *
 *     V = sum z z^T [d, d]     U = sum z y^T [d, C]     W^T = (V + lambda I)^-1 U
 *
 * For a fixed head z is the feature vector at length 1 (0 where it has none). For an ordinary dense head
 * z is the feature vector as it is with a 1 behind it, whose column of W is the bias. A balanced
 * calibration keeps V apart by class, so that every class can be given the same weight, whoever takes
 * part. V is ill-conditioned (6e6 is met): sums are pairs of doubles, so that W depends neither on how
 * samples are split over clients nor on the order of these. Products go through BLAS and LAPACK, so that
 * equal bits need one BLAS kernel. Owns: the arrays of sl_calib. Thread: any, one at a time. */
#ifndef SL_ACCEL_NN_CALIBRATE_H
#define SL_ACCEL_NN_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/nn/model.h"
#include "accel/nn/train.h"
#include "common/error.h"

#define SL_CALIB_VALUES_MAX ((size_t)1 << 26) /* doubles of one client's statistics */

struct sl_calib_shape {
    uint32_t width;   /* of z, the 1 of a bias included */
    uint32_t classes;
    bool bias;     /* z is raw, its last entry 1; else its length is 1 or 0 */
    bool balanced; /* V by class */
};

/* Statistics of some samples. v: for each class if balanced, else once, rows of the lower triangle behind
 * one another; u: [classes, width]. */
struct sl_calib {
    struct sl_calib_shape shape;
    uint64_t n, n_zero; /* samples; those whose features have no direction */
    uint64_t *counts;   /* [classes] samples; owned */
    double *v, *u;          /* owned */
    double *v_low, *u_low;  /* what v and u lack; owned */
};

/* The shape for a model's head. SL_E_INPUT: it has none that can be calibrated. SL_E_LIMIT: statistics
 * beyond SL_CALIB_VALUES_MAX. */
enum sl_code sl_calib_shape_of(const struct sl_model *m, bool balanced,
                               struct sl_calib_shape *ret, struct sl_err *err);
size_t sl_calib_n_v(const struct sl_calib_shape *s);
size_t sl_calib_n_u(const struct sl_calib_shape *s);

enum sl_code sl_calib_init(struct sl_calib *c, const struct sl_calib_shape *s,
                           struct sl_err *err);
void sl_calib_deinit(struct sl_calib *c); /* NULL, {0} allowed */
void sl_calib_clear(struct sl_calib *c);  /* of no samples */

/* Adds n samples: z [n, width] as they are, labels 0..classes-1. SL_E_NOMEM. */
enum sl_code sl_calib_add(struct sl_calib *c, const double *z, const int32_t *labels, size_t n,
                          struct sl_err *err);
/* Adds samples as the model sees them: evaluation mode, in order. What sl_evaluate reports, and
 * SL_E_FAILED for features that are not finite. */
enum sl_code sl_calib_collect(struct sl_calib *c, struct sl_trainer *t, const float *values,
                              const struct sl_samples *samples, struct sl_err *err);

/* sum += c, of one shape. */
void sl_calib_merge(struct sl_calib *sum, const struct sl_calib *c);

/* --- as bytes ---------------------------------------------------------------------------------
 *     0  "SLCALIB1"    8  width u32   12  classes u32   16  bias u32   20  balanced u32
 *    24  n u64        32  n_zero u64  40  counts u64 ... | v f64 ... | u f64 ...
 * little-endian; of pairs, the rounded sums. */
uint64_t sl_calib_bytes(const struct sl_calib_shape *s);
void sl_calib_write(const struct sl_calib *c, uint8_t *ret);
/* Into c, which has the shape that is expected. SL_E_REJECTED for another one, another size. */
enum sl_code sl_calib_read(struct sl_calib *c, const uint8_t *bytes, size_t n,
                           struct sl_err *err);

/* Could samples have these statistics? Finite; counts add up to n, and n is at most max_samples, or equal
 * to it if `exact`; no class's mean is longer than its features; traces are what lengths of 1, or the
 * bias column, make them; V less the classes' outer means is semidefinite. (Symmetry is the format's.)
 * SL_E_REJECTED with the reason. SL_E_NOMEM. */
struct sl_calib_limits {
    uint64_t max_samples;
    bool exact;
};
enum sl_code sl_calib_check(const struct sl_calib *c, const struct sl_calib_limits *l,
                            struct sl_err *err);

/* ret_w [classes, width] for the first lambda of lambda, 10 lambda, 100 lambda ... (from 1e-12 n where
 * lambda is 0) with which V + lambda I has a Cholesky factor. w0 [classes, width], NULL = 0: what the ridge
 * pulls to. Balanced: sample i counts n / (number of classes there are * n of its class).
 * SL_E_FAILED: no samples, or none works up to 1e6 n. */
enum sl_code sl_calib_solve(const struct sl_calib *c, double lambda, const double *w0,
                            double *ret_w, double *ret_lambda, struct sl_err *err);
/* Puts w, as floats, where the head's weight and bias are. */
void sl_calib_apply(const struct sl_calib_shape *s, const double *w, const struct sl_model *m,
                    float *values);

#endif

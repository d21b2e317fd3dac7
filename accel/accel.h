/* SPDX-License-Identifier: Apache-2.0 */
/* accel.h - what a program does once before it computes.
 * Everything else in accel/ is reached through objects (model, trainer, unit). */
#ifndef SL_ACCEL_ACCEL_H
#define SL_ACCEL_ACCEL_H

#include "common/error.h"

/* First thing in main, before any thread computes: keeps OpenBLAS to the calling thread
 * (one training is one thread; parallelism goes across clients). */
void sl_accel_init(void);

/* SL_E_USAGE for a STARLING_CPU_MASK with a name of no instruction set. */
enum sl_code sl_accel_check_env(struct sl_err *err);

/* Name of the BLAS kernel in use ("SkylakeX"); runs are comparable to the bit between
 * processes that report the same name. A constant string. */
const char *sl_accel_blas_name(void);

#endif

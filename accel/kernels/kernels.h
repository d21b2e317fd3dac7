/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the tables of all kernel families for one choice of instruction sets.
 * Each family has x_ops.h (contract and table), x_ops.c (choice), x_body.h (the
 * definition, written so that compilers vectorise it) and one file per instruction set
 * that compiles the definition with its flags. A variant returns the bits of the plain C
 * one: elementwise arithmetic is IEEE and never contracted, and a sum is defined over 16
 * interleaved partial sums, folded in halves, so 4, 8 or 16 lanes give one result. (Which
 * of several NaNs comes out is not defined.) Pointers need the alignment of their element
 * only. Arrays may be the same where a contract says "may be"; otherwise they do not
 * overlap. */
#ifndef SL_ACCEL_KERNELS_KERNELS_H
#define SL_ACCEL_KERNELS_KERNELS_H

#include <stdint.h>

#include "accel/kernels/bfp_ops.h"
#include "accel/kernels/conv_ops.h"
#include "accel/kernels/elem_ops.h"
#include "accel/kernels/pool_ops.h"
#include "accel/kernels/rtn_ops.h"
#include "accel/kernels/tr_ops.h"

struct sl_kernels {
    struct sl_elem_ops elem;
    struct sl_conv_ops conv;
    struct sl_pool_ops pool;
    struct sl_bfp_ops bfp;
    struct sl_tr_ops tr;
    struct sl_rtn_ops rtn;
};

/* The best of `cpu` (bits of kernels/cpu.h; 0 = plain C). */
void sl_kernels_init(struct sl_kernels *k, uint32_t cpu);

#endif

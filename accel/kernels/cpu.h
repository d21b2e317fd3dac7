/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - which instruction sets the kernels may use.
 * Every variant returns the bits of the C definition, so switching one off changes speed
 * only; tests and bug hunts do it with a mask. Thread: any. */
#ifndef SL_ACCEL_KERNELS_CPU_H
#define SL_ACCEL_KERNELS_CPU_H

#include <stdbool.h>
#include <stdint.h>

#define SL_CPU_AVX2 (1u << 0)
#define SL_CPU_AVX512 (1u << 1) /* F, BW, DQ and VL */
#define SL_CPU_AVX512_VNNI (1u << 2) /* used with SL_CPU_AVX512 */
#define SL_CPU_NEON (1u << 3)
#define SL_CPU_DOTPROD (1u << 4) /* Arm's dot product; used with SL_CPU_NEON */
#define SL_CPU_VPOPCNTDQ (1u << 5) /* used with SL_CPU_AVX512 */

/* What this CPU and its operating system support. */
uint32_t sl_cpu_detect(void);
/* The same without what the environment's STARLING_CPU_MASK switches off: what a program
 * computes with. A mask that can't be read switches off nothing; sl_accel_check_env says
 * so once. */
uint32_t sl_cpu_usable(void);

/* Reads names to switch off, separated by commas ("avx2,avx512,vnni,neon,dotprod,vpopcntdq";
 * "all" = every one; "" or NULL = none). False for an unknown name, *ret_off untouched. */
bool sl_cpu_off_parse(const char *names, uint32_t *ret_off);

/* "avx2", ...: name of one bit; NULL for a bit that is none. */
const char *sl_cpu_name(uint32_t bit);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* fdmath.h - log, exp and pow in double whose bits do not depend on the C library.
 * Used where a result decides an index or a weight (Dirichlet shares, power laws, lognormal
 * devices). Plain + - * / and sqrt only, written order kept (-ffp-contract=off), so every
 * IEEE 754 machine returns the same bits. Error below 2 ulp (log, exp) and 4 ulp (pow) over
 * the ranges our distributions use; a test compares with libm. Thread: any. */
#ifndef SL_COMMON_FDMATH_H
#define SL_COMMON_FDMATH_H

double sl_log(double x);            /* x > 0; -inf at 0, NaN below */
double sl_exp(double x);            /* inf above 709.8, 0 below -745.2 */
double sl_pow(double x, double y);  /* x >= 0, via exp(y log x) in double-double */

#endif

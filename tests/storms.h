/* SPDX-License-Identifier: Apache-2.0 */
/* storms.h - how many storms a test draws where n are drawn without sanitizers, which make each about ten
 * times slower. */
#ifndef SL_TESTS_STORMS_H
#define SL_TESTS_STORMS_H

#ifdef SL_SANITIZED
#define SL_STORMS(n) (((n) + 9) / 10)
#else
#define SL_STORMS(n) (n)
#endif

#endif

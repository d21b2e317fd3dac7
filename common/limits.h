/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h - what a peer may send, in one table. Every limit has a test (tests/unit/t_wire.c,
 * tests/system); sizes are checked before anything is allocated. */
#ifndef SL_COMMON_LIMITS_H
#define SL_COMMON_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#define SL_CHUNK_BYTES ((size_t)256 << 10)      /* data of one chunk */
#define SL_WIRE_HEADER_MAX ((size_t)4 << 10)    /* protobuf part of a message */
#define SL_WIRE_PLAIN_MAX (2 + SL_WIRE_HEADER_MAX + SL_CHUNK_BYTES)
#define SL_WIRE_FRAME_MAX (SL_WIRE_PLAIN_MAX + 256) /* with envelope and tag */
#define SL_BLOB_BYTES_MAX ((size_t)1 << 30)     /* one blob: plan, model or update */
#define SL_WIRE_COST_MAX (UINT64_C(1) << 46)    /* each count of a task's cost: a cohort of 10^5 adds up */
#define SL_ROUND_CALIBRATION UINT32_C(0x80000000) /* set in the number of a calibration, which is counted apart
                                                    from rounds and otherwise is one: cohort, deadline, updates,
                                                    commit */
#define SL_WIRE_NAME 64                         /* client name with the closing zero */
#define SL_WIRE_REASON 200                      /* reason text with the closing zero */
#define SL_WIRE_TEXT 128                        /* version, blas, hardware */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* record.h - every (s, a, r) as one fixed-size record, so that policies can be trained off line from
 * what a coordinator logged. A log is records one behind the other, round by round, the rows of a
 * round in order; a record stands for itself (no header), little-endian:
 *
 *     0  8 bytes "SLMARL01"            48  float q of stop, of go
 *     8  u64 run                       56  float inputs[23], 0 beyond n_inputs
 *    16  u32 round                    148  u32 0
 *    20  u32 client                   152  u64 first half of XXH3-128 of bytes 0..151
 *    24  u16 row, u16 rows of the round
 *    28  u8 action, u8 why (policy.h), u8 flags (1: last round of the run), u8 n_inputs
 *    32  double reward of the round
 *    40  double accuracy after the round
 *
 * Thread: any. */
#ifndef SL_SERVER_FEDMARL_RECORD_H
#define SL_SERVER_FEDMARL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/selection/fedmarl/features.h"
#include "server/selection/fedmarl/vdn.h"

#define SL_FEDMARL_RECORD_BYTES 160

struct sl_fedmarl_record {
    uint64_t run;
    uint32_t round, client;
    uint16_t row, rows; /* row < rows <= SL_VDN_AGENTS_MAX */
    uint8_t action, why;
    bool last;
    uint8_t n_inputs; /* 1..SL_FEDMARL_INPUTS_MAX */
    double reward, accuracy;
    float q[2];
    float inputs[SL_FEDMARL_INPUTS_MAX];
};

void sl_fedmarl_record_put(const struct sl_fedmarl_record *r,
                           uint8_t ret[SL_FEDMARL_RECORD_BYTES]);

/* SL_E_INPUT for another mark, a wrong checksum, or a field out of range. */
enum sl_code sl_fedmarl_record_get(const uint8_t bytes[SL_FEDMARL_RECORD_BYTES],
                                   struct sl_fedmarl_record *ret, struct sl_err *err);

/* Appends the n bytes of a round's records to the log at `path` (created, mode 0600). What is there already
 * of this round of the run, or of later ones, goes first, and so does a record cut short: a round whose
 * commit was cut short is logged again. Written, not synced. SL_E_IO, SL_E_NOSPACE. */
enum sl_code sl_fedmarl_log_append(const char *path, uint64_t run, uint32_t round,
                                   const uint8_t *bytes, size_t n, struct sl_err *err);

/* Calls `take` for each joint step of a log, in order: rows of a round, and the rows of the round
 * that follows it in the same run, if that is the next record (otherwise the step ends the
 * episode). Borrowed for the call. *ret_steps of them. A last record cut short is ignored, as a kill
 * leaves it. SL_E_INPUT, with the record's number, for a damaged record, rows out of order, or
 * inputs that are not n_inputs. */
typedef void (*sl_fedmarl_step_sink)(void *ctx, const struct sl_vdn_transition *t);
enum sl_code sl_fedmarl_log_read(const char *where, const uint8_t *bytes, size_t n,
                                 uint32_t n_inputs, sl_fedmarl_step_sink take, void *ctx,
                                 size_t *ret_steps, struct sl_err *err);

#endif

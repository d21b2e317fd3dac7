/* SPDX-License-Identifier: Apache-2.0 */
/* store_checkpoint.h - checkpoint files of a state directory: one vector of fp32 a file,
 * written to a temporary name, synced, renamed, and the folder synced, so that a file
 * with a checkpoint's name is always whole. Bytes of a file:
 *
 *     0       8               40          48             64
 *     | magic | layout digest | n LE u64  | XXH3-128     | n fp32, little-endian ...
 *
 * The layout digest covers names, roles and shapes; the XXH3-128 covers the values.
 * Names: "run-<run>-<rounds done>.slm". Thread: any, one writer a name. Owns nothing. */
#ifndef SL_SERVER_STORE_CHECKPOINT_H
#define SL_SERVER_STORE_CHECKPOINT_H

#include <stdint.h>

#include "common/error.h"
#include "common/hash.h"
#include "common/limits.h"
#include "common/tensor.h"

#define SL_CHECKPOINT_NAME 64

/* BLAKE2b-256 over names, roles and shapes of all tensors in order. */
void sl_checkpoint_layout_digest(const struct sl_layout *l, uint8_t ret[SL_DIGEST_BYTES]);

void sl_checkpoint_name(uint64_t run, uint32_t round_plus1, char ret[SL_CHECKPOINT_NAME]);

/* Writes `name` in the folder `dir_fd`; on failure nothing of it is left. SL_E_NOSPACE,
 * SL_E_IO. */
enum sl_code sl_checkpoint_save(int dir_fd, const char *name,
                                const struct sl_layout *layout, const float *values,
                                struct sl_err *err);

/* Reads layout->n_values floats. SL_E_NOTFOUND when there is no such file; SL_E_STATE
 * when it is cut, altered or of another layout; ret_values is then undefined. */
enum sl_code sl_checkpoint_load(int dir_fd, const char *name,
                                const struct sl_layout *layout, float *ret_values,
                                struct sl_err *err);

/* Removes the run's checkpoints of fewer than keep_from rounds done, but not the one named keep (NULL =
 * none); those of calibrations (SL_ROUND_CALIBRATION) only for a later one. What can't be removed stays. */
void sl_checkpoint_prune(int dir_fd, uint64_t run, uint32_t keep_from, const char *keep);

/* Removes temporary files that a kill left. */
void sl_checkpoint_sweep(int dir_fd);

#endif

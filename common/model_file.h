/* SPDX-License-Identifier: Apache-2.0 */
/* model_file.h - a model as a file that other tools read: NumPy's .npz or .safetensors,
 * told by the path's extension. Names and shapes are the layout's (PyTorch's). Values are
 * not looked at: NaN and infinities pass. Thread: any; blocks on the disk. */
#ifndef SL_COMMON_MODEL_FILE_H
#define SL_COMMON_MODEL_FILE_H

#include "common/error.h"
#include "common/tensor.h"

/* SL_E_USAGE unless the path ends in .npz or .safetensors: for programs that want to know
 * before they train. */
enum sl_code sl_model_file_check(const char *path, struct sl_err *err);

/* Writes values[layout->n_values] of all tensors, fixed ones too, as fp32 in the layout's
 * order, synced; the old file stays until the new one is whole. SL_E_USAGE for another
 * extension, SL_E_NOSPACE, SL_E_IO, SL_E_NOTFOUND (folder), SL_E_LIMIT, SL_E_NOMEM. */
enum sl_code sl_model_file_save(const char *path, const struct sl_layout *layout,
                                const float *values, struct sl_err *err);

/* Reads the tensors of the layout, found by name whatever their order, into
 * ret_values[layout->n_values]. Floats of other widths are converted. SL_E_INPUT when one
 * is missing, has another shape or holds integers, when the file holds one that the
 * layout does not, or is damaged; SL_E_USAGE, SL_E_NOTFOUND, SL_E_IO, SL_E_LIMIT,
 * SL_E_NOMEM. */
enum sl_code sl_model_file_load(const char *path, const struct sl_layout *layout,
                                float *ret_values, struct sl_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* array.h - arrays in and out of starling-accel: .npy files read whole, results written
 * at once or not at all. Thread: main only. */
#ifndef SL_ACCEL_TOOL_ARRAY_H
#define SL_ACCEL_TOOL_ARRAY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/npz.h"

/* An array with values aligned for its type; a.owned holds them. */
struct sl_tool_array {
    struct sl_npy a;
};
void sl_tool_array_deinit(struct sl_tool_array *x); /* NULL and {0} allowed */

/* SL_E_NOTFOUND, SL_E_INPUT (damaged, cut, another format), SL_E_LIMIT, SL_E_NOMEM. */
enum sl_code sl_tool_array_load(const char *path, struct sl_tool_array *ret,
                                struct sl_err *err);
/* SL_E_INPUT unless the array is of this dtype; `what` names it. */
enum sl_code sl_tool_array_demand(const char *path, const struct sl_tool_array *x,
                                  enum sl_npy_dtype dtype, struct sl_err *err);

/* Results of a command, written as one .npz. Values are borrowed until then. */
#define SL_TOOL_FIELDS 16
struct sl_tool_result {
    struct sl_npz_item item[SL_TOOL_FIELDS];
    size_t n;
};
/* dim may be NULL with n_dims 0. */
enum sl_code sl_tool_result_add(struct sl_tool_result *r, const char *name,
                                enum sl_npy_dtype dtype, unsigned n_dims,
                                const size_t *dim, const void *data, struct sl_err *err);
enum sl_code sl_tool_result_write(const struct sl_tool_result *r, const char *path,
                                  struct sl_err *err);
/* One array as a .npy. */
enum sl_code sl_tool_npy_write(const char *path, enum sl_npy_dtype dtype, unsigned n_dims,
                               const size_t *dim, const void *data, struct sl_err *err);

/* Memory of a command: blocks that are freed together. {0} is empty. */
#define SL_TOOL_BLOCKS 32
struct sl_tool_memory {
    void *block[SL_TOOL_BLOCKS];
    size_t n;
};
/* n zeroed values of `size` bytes, at least one; NULL without memory: sl_tool_memory_ok
 * says so afterwards. */
void *sl_tool_room(struct sl_tool_memory *m, size_t n, size_t size);
enum sl_code sl_tool_memory_ok(const struct sl_tool_memory *m, struct sl_err *err);
void sl_tool_memory_deinit(struct sl_tool_memory *m);

#endif

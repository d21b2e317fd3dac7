/* SPDX-License-Identifier: Apache-2.0 */
/* npz.h - named arrays in NumPy's .npz format: a zip archive of entries NAME.npy, stored
 * or deflated. Archives are read from memory and checked as a whole when opened; values
 * are checked by CRC-32 when they are taken. Layout (APPNOTE.TXT 6.3, sections 4.3
 * to 4.5):
 *
 *   local header 50 4B 03 04, name, extra, data     for each entry
 *   directory    50 4B 01 02, name, extra, comment  for each entry
 *   end record   50 4B 05 06, number of entries, size and offset of the directory,
 * comment
 *
 * Sizes come from the directory, because a local header may hold them in a zip64 extra
 * field or behind the data. Archives of 4 GiB or more, encrypted ones and those in parts
 * are refused. Thread: any; an open archive is constant. */
#ifndef SL_COMMON_NPZ_H
#define SL_COMMON_NPZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/npy.h"

#define SL_NPZ_NAME 128          /* bytes of an array's name with the closing zero */
#define SL_NPZ_ENTRIES_MAX 4096u /* arrays of an archive */

struct sl_npz_entry {
    char name[SL_NPZ_NAME]; /* without ".npy" */
    bool deflated;
    uint32_t crc;
    size_t packed, size; /* bytes in the archive, bytes of the .npy */
    const uint8_t *data; /* [packed], borrowed */
};

struct sl_npz {
    const char *where;          /* borrowed */
    struct sl_npz_entry *entry; /* [n_entries] in the directory's order; owned */
    size_t n_entries;
};

/* Reads the directory of the archive bytes[0..n-1]; ret borrows `where` and `bytes`.
 * Entries whose names don't end in ".npy" are passed over. SL_E_INPUT for a damaged or
 * cut archive, for a name that occurs twice or holds control characters, SL_E_LIMIT,
 * SL_E_NOMEM. */
enum sl_code sl_npz_open(const char *where, const uint8_t *bytes, size_t n,
                         struct sl_npz *ret, struct sl_err *err);
void sl_npz_deinit(struct sl_npz *z); /* NULL and {0} allowed */

/* NULL when there is none of that name. */
const struct sl_npz_entry *sl_npz_find(const struct sl_npz *z, const char *name);

/* Takes an array out: a stored one borrows the archive's bytes, a deflated one owns its
 * values; deinit in both cases. SL_E_NOTFOUND, SL_E_INPUT for a wrong checksum, broken
 * deflate data or a bad .npy, SL_E_NOMEM. */
enum sl_code sl_npz_get(const struct sl_npz *z, const char *name, struct sl_npy *ret,
                        struct sl_err *err);

/* What an archive is written from; both borrowed. */
struct sl_npz_item {
    const char *name; /* without ".npy" */
    struct sl_npy array;
};

/* The archive of n_items arrays, stored, in their order; equal arrays give equal bytes.
 * *ret is the caller's to free(). SL_E_LIMIT for 4 GiB or more, too many arrays or a name
 * that is empty or too long, SL_E_INPUT for a name that occurs twice or holds control
 * characters, SL_E_NOMEM. */
enum sl_code sl_npz_encode(const struct sl_npz_item *items, size_t n_items, uint8_t **ret,
                           size_t *ret_n, struct sl_err *err);

#endif

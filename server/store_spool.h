/* SPDX-License-Identifier: Apache-2.0 */
/* store_spool.h - slots of equal size in one file, written and read in place. Both stores
 * keep incoming updates so. Borrows the file descriptor. Thread: any, for distinct slots.
 */
#ifndef SL_SERVER_STORE_SPOOL_H
#define SL_SERVER_STORE_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct sl_spool {
    int fd; /* -1 = not open */
    uint32_t n_slots;
    uint64_t slot_bytes;
};

/* Makes room for n_slots of slot_bytes in the open file; what lies there stays where it
 * lies. */
enum sl_code sl_spool_resize(struct sl_spool *s, uint32_t n_slots, uint64_t slot_bytes,
                             struct sl_err *err);
/* n bytes at `offset` of a slot. SL_E_RANGE outside of it, SL_E_NOSPACE, SL_E_IO. */
enum sl_code sl_spool_write(const struct sl_spool *s, uint32_t slot, uint64_t offset,
                            const uint8_t *data, size_t n, struct sl_err *err);
enum sl_code sl_spool_read(const struct sl_spool *s, uint32_t slot, uint64_t offset,
                           uint8_t *ret, size_t n, struct sl_err *err);
/* Closes the descriptor and forgets the slots. */
void sl_spool_close(struct sl_spool *s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - checked sizes, zeroed allocation, and the arena that steady state allocates from.
 * On the machines we measured, the first touch of a 4 KiB page costs 13 to 27 us and of a page
 * inside a huge page 0.5 us: training and aggregation allocate once, from huge-page arenas,
 * and reuse. Thread: an arena belongs to one thread at a time. */
#ifndef SL_COMMON_MEM_H
#define SL_COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_ALIGN 64

/* *ret = a * b, a + b; false (and *ret untouched) when it does not fit. */
static inline bool sl_size_mul(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

static inline bool sl_size_add(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

/* n zeroed elements of `size` bytes; NULL on overflow or no memory. Caller frees with free(). */
void *sl_calloc(size_t n, size_t size);

/* Tells the C library to keep freed memory and never to serve large blocks from fresh
 * mappings (see above). Once, at the start of main. */
void sl_mem_tune_malloc(void);

/* One anonymous mapping, bump-allocated. {0} is a valid empty arena. */
struct sl_arena {
    uint8_t *base;
    size_t capacity; /* bytes, multiple of the page size */
    size_t used;     /* bytes, always a multiple of SL_ALIGN */
};

/* Maps `capacity` bytes (rounded up; huge pages asked for when 2 MiB or more), all zero.
 * false when there is no memory. */
bool sl_arena_init(struct sl_arena *a, size_t capacity);
void sl_arena_deinit(struct sl_arena *a); /* NULL and {0} allowed */

/* `bytes` bytes aligned to SL_ALIGN; NULL when the arena is full. Zero after init, whatever was
 * left there after a reset. */
void *sl_arena_alloc(struct sl_arena *a, size_t bytes);

/* Bytes that an allocation of `bytes` takes from an arena. */
size_t sl_arena_cost(size_t bytes);

/* Forgets all allocations beyond `mark` (a value of `used` seen earlier; 0 = all). */
void sl_arena_reset(struct sl_arena *a, size_t mark);

#endif

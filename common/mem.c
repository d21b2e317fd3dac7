/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)
#define HUGE_BYTES ((size_t)2 << 20)

void *sl_calloc(size_t n, size_t size)
{
    size_t bytes; /* asked here: address sanitizer's calloc ends the program on overflow */
    if (!sl_size_mul(n, size, &bytes))
        return NULL;
    return bytes == 0 ? calloc(1, 1) : calloc(n, size);
}

void sl_mem_tune_malloc(void)
{
    /* One arena: threads here hand buffers to one another, and per-thread arenas would each keep
     * their own free memory. */
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 512 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    mallopt(M_TOP_PAD, 1 << 18);
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

bool sl_arena_init(struct sl_arena *a, size_t capacity)
{
    *a = (struct sl_arena){0};
    if (capacity > SIZE_MAX / 2)
        return false;
    bool huge = capacity >= HUGE_BYTES;
    size_t bytes = round_up(capacity == 0 ? 1 : capacity, huge ? HUGE_BYTES : PAGE_BYTES);
    /* a mapping on a huge-page boundary: map more, cut the ends off */
    size_t slack = huge ? HUGE_BYTES : 0;
    uint8_t *p = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    if (huge) {
        uint8_t *start = (uint8_t *)round_up((uintptr_t)p, HUGE_BYTES);
        size_t head = (size_t)(start - p);
        if (head > 0)
            munmap(p, head);
        if (slack > head)
            munmap(start + bytes, slack - head);
        p = start;
        madvise(p, bytes, MADV_HUGEPAGE); /* advice only: without it the arena is just slower */
    }
    a->base = p;
    a->capacity = bytes;
    return true;
}

void sl_arena_deinit(struct sl_arena *a)
{
    if (a == NULL || a->base == NULL)
        return;
    munmap(a->base, a->capacity);
    *a = (struct sl_arena){0};
}

size_t sl_arena_cost(size_t bytes)
{
    return round_up(bytes == 0 ? 1 : bytes, SL_ALIGN);
}

void *sl_arena_alloc(struct sl_arena *a, size_t bytes)
{
    if (bytes > a->capacity)
        return NULL;
    size_t cost = sl_arena_cost(bytes);
    if (cost > a->capacity - a->used)
        return NULL;
    void *p = a->base + a->used;
    a->used += cost;
    return p;
}

void sl_arena_reset(struct sl_arena *a, size_t mark)
{
    if (mark < a->used)
        a->used = mark;
}

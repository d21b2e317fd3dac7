/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_stream.h - bytes in order from a file or from memory, gzip undone on the way.
 * gzip is recognised by its first two bytes. Never inflates further than it was asked to read, so
 * a small file that announces little cannot take much memory or time.
 * Owns: the open file and inflate's state (about 40 KiB); borrows the memory it reads from and
 * `where`, the name in messages. Thread: one at a time. */
#ifndef SL_COMMON_DATASET_STREAM_H
#define SL_COMMON_DATASET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct sl_stream {
    const char *where;
    int fd;              /* -1 when reading memory */
    const uint8_t *next; /* input not yet used */
    size_t left;
    uint8_t *buffer;     /* file input; owned */
    bool end_of_input;
    void *inflate;       /* z_stream; NULL for plain bytes; owned */
    bool between;        /* gzip: before the header of the next member */
    uint64_t most;       /* upper bound of the bytes that can come out */
};

/* SL_E_NOTFOUND, SL_E_IO, SL_E_NOMEM. `where` is the path and must outlive the stream. */
enum sl_code sl_stream_open_file(const char *path, struct sl_stream *ret, struct sl_err *err);
enum sl_code sl_stream_open_memory(const char *where, const uint8_t *bytes, size_t n,
                                   struct sl_stream *ret, struct sl_err *err);
void sl_stream_close(struct sl_stream *s); /* NULL and {0} allowed */

/* Reads n bytes, fewer only at the end of the data: *ret_n. SL_E_INPUT for broken gzip. */
enum sl_code sl_stream_read(struct sl_stream *s, void *to, size_t n, size_t *ret_n,
                            struct sl_err *err);

/* Reads exactly n bytes; SL_E_INPUT "WHERE: truncated at WHAT" when they end before. */
enum sl_code sl_stream_exact(struct sl_stream *s, void *to, size_t n, const char *what,
                             struct sl_err *err);

/* SL_E_INPUT when n bytes are more than the input can hold: asked before memory is allocated for
 * what a header announces. A plain input holds its size, gzip at most 1032 times as much. */
enum sl_code sl_stream_can_hold(const struct sl_stream *s, uint64_t n, const char *what,
                                struct sl_err *err);

/* Reads and forgets exactly n bytes. */
enum sl_code sl_stream_skip(struct sl_stream *s, uint64_t n, const char *what,
                            struct sl_err *err);

/* SL_E_INPUT unless the data end here. */
enum sl_code sl_stream_expect_end(struct sl_stream *s, struct sl_err *err);

/* Reads all that is left, at most max_bytes (more is SL_E_LIMIT); *ret is the caller's to
 * free(). */
enum sl_code sl_stream_rest(struct sl_stream *s, size_t max_bytes, uint8_t **ret,
                            size_t *ret_n, struct sl_err *err);

#endif

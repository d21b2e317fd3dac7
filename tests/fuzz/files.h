/* SPDX-License-Identifier: Apache-2.0 */
/* files.h - what targets share: files for loaders that want paths, and checks of what
 * every loader promises. Folders lie in $TMPDIR, else in /dev/shm. A failure of the file
 * system ends the process. Thread: one. */
#ifndef SL_TESTS_FUZZ_FILES_H
#define SL_TESTS_FUZZ_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Ends the process: a promise is broken. */
void fuzz_must(bool promise);

/* A failure says so in one line. */
void fuzz_check_line(enum sl_code rc, const struct sl_err *err);

/* Lines "#set TEXT" at the head of the input, as zero-terminated texts; returns how many.
 */
#define FUZZ_SETS 4
#define FUZZ_SET_BYTES 256
size_t fuzz_set_lines(const uint8_t *data, size_t size,
                      char ret[FUZZ_SETS][FUZZ_SET_BYTES]);

/* A file without a name; `path` leads to it while it is open. */
struct fuzz_file {
    int fd;
    char path[32];
};
void fuzz_file_open(struct fuzz_file *f, const void *bytes, size_t n);
void fuzz_file_close(struct fuzz_file *f);

/* A folder of its own; close removes it with its files. */
struct fuzz_folder {
    char path[256];
};
void fuzz_folder_open(struct fuzz_folder *d);
void fuzz_folder_put(const struct fuzz_folder *d, const char *name, const void *bytes,
                     size_t n);
/* The same, compressed with gzip unless the bytes are that already. */
void fuzz_folder_put_gzip(const struct fuzz_folder *d, const char *name,
                          const void *bytes, size_t n);
void fuzz_folder_close(struct fuzz_folder *d);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - whole files in, whole files out, and the calls around them that are easy to
 * get wrong. A file written here is either the old one or the new one at every instant,
 * also across a kill; with `sync` also across a power cut. Errors name the path; a full
 * disk is SL_E_NOSPACE. Thread: any. Blocks on the disk. */
#ifndef SL_COMMON_FILE_H
#define SL_COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Reads all of a regular file or pipe, at most max_bytes (more is SL_E_LIMIT, before
 * memory is taken where the size is known). A zero byte follows the n bytes. *ret is the
 * caller's to free(). SL_E_NOTFOUND, SL_E_IO (also for a folder), SL_E_NOMEM. */
enum sl_code sl_file_read(const char *path, size_t max_bytes, uint8_t **ret,
                          size_t *ret_n, struct sl_err *err);

/* Replaces the file at `path` by n bytes: written beside it, renamed over it. sync: the
 * bytes are on the disk before the rename, and the rename is before the return. On
 * failure the old file is untouched and nothing new stays behind; only when syncing the
 * folder fails does the new file stand already. A process killed inside leaves
 * ".NAME.PID.K.tmp". A symbolic link at `path` is replaced, not followed. Mode 0666 less
 * umask. data may be NULL when n is 0. */
enum sl_code sl_file_write_atomic(const char *path, const void *data, size_t n, bool sync,
                                  struct sl_err *err);

/* Exactly n bytes at `offset`. Reading: SL_E_INPUT when the file ends before. `path` only
 * names the file in messages. */
enum sl_code sl_file_pread(int fd, const char *path, void *ret, size_t n, uint64_t offset,
                           struct sl_err *err);
enum sl_code sl_file_pwrite(int fd, const char *path, const void *data, size_t n,
                            uint64_t offset, struct sl_err *err);

/* Opens (creates, mode 0600) a lock file and locks it for this process until the
 * descriptor is closed or the process ends. SL_E_EXISTS when somebody else holds it:
 * never waits. The descriptor is the caller's to close(); children don't inherit it. */
enum sl_code sl_file_lock(const char *path, int *ret_fd, struct sl_err *err);

/* Makes a folder and those above it that are missing, with `mode` less umask. One that is
 * there already is fine; SL_E_IO when something on the way is no folder. */
enum sl_code sl_dir_make(const char *path, unsigned mode, struct sl_err *err);

/* Returns once the folder's entries (files created, renamed, removed) are on the disk. */
enum sl_code sl_dir_sync(const char *path, struct sl_err *err);

#endif

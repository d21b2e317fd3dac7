/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - the one error contract of Starling.
 * A function that can fail returns enum sl_code and, on failure, writes one line into the
 * caller's struct sl_err: what, where, what is allowed. Codes of errno, libuv, NNG, SQLite and
 * libsodium are translated where they arise and go no further. Callers wrap, so a line reads
 * "resume round 12: checkpoint: bad magic". Libraries report, programs log.
 * Thread: any. Owns nothing. */
#ifndef SL_COMMON_ERROR_H
#define SL_COMMON_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* name, exit status of a program that ends with it (DESIGN section 6), short text */
#define SL_CODES(X)                                                                      \
    X(SL_OK, 0, "ok")                                                                    \
    X(SL_E_USAGE, 2, "usage")                                                            \
    X(SL_E_INPUT, 2, "bad input")                                                        \
    X(SL_E_RANGE, 2, "out of range")                                                     \
    X(SL_E_LIMIT, 2, "limit exceeded")                                                   \
    X(SL_E_IO, 1, "input/output error")                                                  \
    X(SL_E_NOSPACE, 1, "no space left")                                                  \
    X(SL_E_NOMEM, 1, "out of memory")                                                    \
    X(SL_E_NOTFOUND, 2, "not found")                                                     \
    X(SL_E_EXISTS, 2, "exists already")                                                  \
    X(SL_E_PROTO, 1, "protocol violation")                                               \
    X(SL_E_CRYPTO, 1, "authentication failed")                                           \
    X(SL_E_REPLAY, 1, "replayed message")                                                \
    X(SL_E_REFUSED, 3, "refused by the peer")                                            \
    X(SL_E_UNREACHABLE, 3, "peer unreachable")                                           \
    X(SL_E_STATE, 4, "state directory unusable")                                         \
    X(SL_E_REJECTED, 1, "rejected")                                                      \
    X(SL_E_CANCELLED, 1, "cancelled")                                                    \
    X(SL_E_TIMEOUT, 1, "timed out")                                                      \
    X(SL_E_FAILED, 1, "failed")                                                          \
    X(SL_E_BUG, 70, "internal error")

enum sl_code {
#define SL_CODE_ENUM(name, exit_status, text) name,
    SL_CODES(SL_CODE_ENUM)
#undef SL_CODE_ENUM
};

#define SL_ERR_MAX 512

struct sl_err {
    enum sl_code code;
    char msg[SL_ERR_MAX]; /* one line, no newline at the end */
};

/* The short text of a code; never NULL. */
const char *sl_code_text(enum sl_code code);

/* The exit status a program ends with when `code` is why it ends. */
int sl_code_exit_status(enum sl_code code);

/* Writes code and formatted message; returns code. err may be NULL (only the code is kept). */
enum sl_code sl_err_set(struct sl_err *err, enum sl_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message already there and sets the code; returns code. */
enum sl_code sl_err_wrap(struct sl_err *err, enum sl_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As sl_err_set, with code and text taken from errno value `errnum` (ENOSPC and EDQUOT ->
 * SL_E_NOSPACE, ENOENT -> SL_E_NOTFOUND, ENOMEM -> SL_E_NOMEM, else SL_E_IO);
 * the message reads "<fmt>: <strerror>". */
enum sl_code sl_err_errno(struct sl_err *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int exit_status;
    const char *text;
} codes[] = {
#define SL_CODE_ROW(name, exit_status, text) [name] = {exit_status, text},
    SL_CODES(SL_CODE_ROW)
#undef SL_CODE_ROW
};

#define N_CODES (sizeof(codes) / sizeof(codes[0]))

const char *sl_code_text(enum sl_code code)
{
    return (size_t)code < N_CODES ? codes[code].text : "unknown error code";
}

int sl_code_exit_status(enum sl_code code)
{
    return (size_t)code < N_CODES ? codes[code].exit_status : 70;
}

enum sl_code sl_err_set(struct sl_err *err, enum sl_code code, const char *fmt, ...)
{
    if (err == NULL)
        return code;
    /* arguments may point into err->msg, so format aside first */
    char text[SL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err->code = code;
    memcpy(err->msg, text, sizeof(text));
    return code;
}

enum sl_code sl_err_wrap(struct sl_err *err, enum sl_code code, const char *fmt, ...)
{
    if (err == NULL)
        return code;
    char prefix[SL_ERR_MAX / 2];
    char old[SL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof(prefix), fmt, ap);
    va_end(ap);
    memcpy(old, err->msg, sizeof(old));
    old[sizeof(old) - 1] = '\0';
    err->code = code;
    int n = snprintf(err->msg, sizeof(err->msg), "%s: ", prefix);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used >= sizeof(err->msg))
        return code;
    size_t room = sizeof(err->msg) - used - 1, len = strnlen(old, room);
    memcpy(err->msg + used, old, len); /* what does not fit is cut off */
    err->msg[used + len] = '\0';
    return code;
}

static enum sl_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return SL_E_NOSPACE;
    case ENOENT:
        return SL_E_NOTFOUND;
    case ENOMEM:
        return SL_E_NOMEM;
    case EEXIST:
        return SL_E_EXISTS;
    default:
        return SL_E_IO;
    }
}

enum sl_code sl_err_errno(struct sl_err *err, int errnum, const char *fmt, ...)
{
    char what[SL_ERR_MAX / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return sl_err_set(err, code_of_errno(errnum), "%s: %s", what, strerror(errnum));
}

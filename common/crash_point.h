/* SPDX-License-Identifier: Apache-2.0 */
/* crash_point.h - named instants at which a test build ends the process as kill -9 would. Without
 * the build option crash_points they are nothing. The environment variable SL_CRASH_AT names
 * the point. Thread: any. */
#ifndef SL_COMMON_CRASH_POINT_H
#define SL_COMMON_CRASH_POINT_H

#ifdef SL_CRASH_POINTS
#include <signal.h>
#include <stdlib.h>
#include <string.h>
static inline void sl_crash_point(const char *name)
{
    const char *at = getenv("SL_CRASH_AT");
    if (at != NULL && strcmp(at, name) == 0)
        raise(SIGKILL);
}
#define SL_CRASH_POINT(name) sl_crash_point(name)
#else
#define SL_CRASH_POINT(name) ((void)0)
#endif

#endif

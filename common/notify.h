/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - readiness, status and watchdog notifications to systemd (sd_notify(3)), where Starling is
 * built with libsystemd and runs under it; otherwise nothing. Thread: any. */
#ifndef SL_COMMON_NOTIFY_H
#define SL_COMMON_NOTIFY_H

/* state as for sd_notify: "READY=1", "STATUS=...", "WATCHDOG=1". */
void sl_notify(const char *state);

#endif

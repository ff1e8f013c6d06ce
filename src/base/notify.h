/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify.h - tells the service manager how the daemon is: systemd's protocol of
 * sd_notify(3), without its library.
 *
 * Without a manager that listens nothing is sent.  What is sent may be lost, which is
 * logged; nobody has to act on it.  notify_open before threads start, the rest from any
 * thread.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "base/cleanup.h"

#include <stdint.h>

/*
 * Takes what the manager said from the environment, and out of it: no child is to speak
 * in this process' name.
 */
void notify_open(void);
/*
 * Sends one message: lines of NAME=VALUE, as READY=1 or STATUS=TEXT.  Waits for a short
 * time at most.
 */
void notify_send(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* RELOADING=1, with the time that the protocol wants; READY=1 is to follow. */
void notify_reloading(void);
/* How often the manager wants to hear WATCHDOG=1, at the least; 0: it does not. */
int64_t notify_watchdog_ms(void);

#endif

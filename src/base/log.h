/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - leveled messages to stderr or syslog, one line each.
 *
 * Thread-safe, keeps errno.  Lines are lower case, without full stop, with
 * the context first ("branch b1: ...").  Control characters in the message are
 * escaped, so that one call is one line.  A warning ends with what happens next.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/*
 * To syslog (daemonised) or stderr (foreground; in the form that systemd's journal
 * takes, if it reads that).  Call before threads start.
 */
void log_open(const char *ident, bool to_syslog, enum log_level max);
void log_write(enum log_level lvl, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* How many messages of this level there were in this process. */
uint64_t log_count(enum log_level lvl);

#define log_error(...) log_write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LVL_DEBUG, __VA_ARGS__)

#endif

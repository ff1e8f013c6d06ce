/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One message is one write(2) to stderr or one syslog(3) call, so lines of two
 * threads never mix and no lock is needed.  The sink is chosen before threads
 * start and then only read.
 */
#include "base/log.h"

#include "base/fd.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

static const struct {
	const char *prefix;
	int priority;
} log_levels[] = {
	[LOG_LVL_ERROR] = {"error: ", LOG_ERR},
	[LOG_LVL_WARN] = {"warning: ", LOG_WARNING},
	[LOG_LVL_INFO] = {"", LOG_INFO},
	[LOG_LVL_DEBUG] = {"debug: ", LOG_DEBUG},
};

static const char *log_ident = "pgbranchfs";
static bool log_to_syslog, log_to_journal;
static enum log_level log_max = LOG_LVL_INFO;
static atomic_uint_fast64_t log_counts[ARRAY_SIZE(log_levels)];

/* Is stderr read by systemd's journal?  It says which file that is. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_open(const char *ident, bool to_syslog, enum log_level max)
{
	if (log_to_syslog)
		closelog();
	log_ident = ident;
	log_to_syslog = to_syslog;
	log_to_journal = !to_syslog && stderr_is_journal();
	log_max = max;
	if (to_syslog)
		openlog(ident, LOG_PID, LOG_DAEMON);
}

uint64_t log_count(enum log_level lvl)
{
	return atomic_load(&log_counts[lvl]);
}

/* Control characters would let a name from outside forge a second line. */
static void log_escape(struct str *out, const char *s)
{
	for (const char *p = s; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '\n')
			str_add(out, "\\n");
		else if (c == '\t')
			str_add(out, "\\t");
		else if (c < 0x20 || c == 0x7f)
			str_printf(out, "\\x%02x", c);
		else
			str_addn(out, p, 1);
	}
}

void log_write(enum log_level lvl, const char *fmt, ...)
{
	struct str line = STR_INIT;
	char fixed[512];
	char *heap = NULL;
	int saved = errno;
	va_list ap;

	(void)atomic_fetch_add(&log_counts[lvl], 1);
	if (lvl > log_max)
		return;
	va_start(ap, fmt);
	if (vasprintf(&heap, fmt, ap) < 0)
		heap = NULL;
	va_end(ap);
	if (!heap) {
		/* out of memory: a cut line is better than none */
		va_start(ap, fmt);
		(void)vsnprintf(fixed, sizeof(fixed), fmt, ap); /* may be cut */
		va_end(ap);
	}
	if (log_to_journal) /* it knows who we are, and not how bad it is */
		str_printf(&line, "<%d>", log_levels[lvl].priority);
	else if (!log_to_syslog)
		str_printf(&line, "%s: %s", log_ident, log_levels[lvl].prefix);
	log_escape(&line, heap ? heap : fixed);
	if (log_to_syslog) {
		syslog(log_levels[lvl].priority, "%s",
		       line.failed ? "out of memory for a message" : line.s);
	} else {
		str_add(&line, "\n");
		if (!line.failed) {
			/* there is nowhere to report that the log is gone */
			int ignored = fd_write_full(STDERR_FILENO, line.s, line.len);
			(void)ignored;
		}
	}
	str_fini(&line);
	free(heap);
	errno = saved;
}

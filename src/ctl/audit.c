/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that fills up cuts a line short.  The next one then starts behind a newline of
 * its own, so that only the one that was cut is no JSON.
 *
 * What cannot be recorded is refused, and on a full disk that must not hold for the
 * requests that make room: so space for some thousand lines is taken ahead, and half of
 * it is kept for them.
 */
#include "ctl/audit.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ROOM_BYTES (1 << 20)

struct audit {
	char *path;
	int dirfd;
	pthread_mutex_t lock;
	int fd;       /* lock: lock */
	bool torn;    /* lock: lock; the file's last line has no end */
	bool failing; /* lock: lock; said in the log */
	off_t room;   /* lock: lock; the disk has space for the file up to here */
};

/* Does the file end within a line, as a crash on a full disk may leave it? */
static bool ends_torn(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char last;

	return size > 0 && fd_pread_full(fd, &last, 1, (uint64_t)size - 1) == 1 &&
	       last != '\n';
}

static int open_file(int dirfd)
{
	int fd = openat(dirfd, AUDIT_FILE,
			O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW |
				O_NONBLOCK | O_NOCTTY,
			0600);

	return fd < 0 ? -errno : fd;
}

/* False: the disk is full, and what is left of the room is for those who make space. */
static bool has_room_locked(struct audit *a)
{
	off_t end = lseek(a->fd, 0, SEEK_END);

	if (end < 0 || a->room - end >= ROOM_BYTES / 2)
		return true;
	if (fallocate(a->fd, FALLOC_FL_KEEP_SIZE, end, ROOM_BYTES) < 0)
		return errno != ENOSPC; /* where it cannot be taken, none is kept */
	a->room = end + ROOM_BYTES;
	return true;
}

int audit_open(int dirfd, const char *path, struct audit **ret_audit)
{
	struct audit *a = calloc(1, sizeof(*a));
	int fd;

	if (!a)
		return -ENOMEM;
	(void)pthread_mutex_init(&a->lock, NULL); /* cannot fail with NULL */
	a->fd = -1;
	a->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	a->path = text_format("%s/" AUDIT_FILE, path);
	fd = a->dirfd < 0 || !a->path ? -ENOMEM : open_file(dirfd);
	if (fd < 0) {
		(void)audit_close(a); /* returns NULL */
		return fd;
	}
	a->torn = ends_torn(fd);
	a->fd = fd;
	(void)has_room_locked(a); /* tried again with each line */
	*ret_audit = a;
	return 0;
}

struct audit *audit_close(struct audit *a)
{
	int saved = errno;

	if (!a)
		return NULL;
	clean_fd(&a->fd);
	clean_fd(&a->dirfd);
	(void)pthread_mutex_destroy(&a->lock); /* nobody holds it */
	free(a->path);
	free(a);
	errno = saved;
	return NULL;
}

void audit_reopen(struct audit *a)
{
	int fd = open_file(a->dirfd);

	if (fd < 0) {
		log_error("%s: cannot open: %s; going on with the file that was there",
			  a->path, strerrordesc_np(-fd));
		return;
	}
	LOCK_SCOPE(&a->lock);
	clean_fd(&a->fd);
	a->fd = fd;
	a->torn = ends_torn(fd);
	a->room = 0;
	(void)has_room_locked(a); /* tried again with each line */
}

static void add_text(struct str *out, const char *key, const char *text)
{
	str_printf(out, ",\"%s\":", key);
	if (text)
		str_json(out, text);
	else
		str_add(out, "null");
}

void audit_format(const struct audit_event *ev, const struct timespec *now,
		  struct str *out)
{
	static const char *const verdicts[] = {
		[AUDIT_ALLOWED] = "allowed",
		[AUDIT_DENIED] = "denied",
		[AUDIT_FAILED] = "failed",
	};
	char when[21];

	text_format_time(now->tv_sec, when);
	when[strlen(when) - 1] = '\0'; /* the Z comes behind the fraction */
	str_printf(out, "{\"time\":\"%s.%06ldZ\",\"uid\":%u,\"gid\":%u,\"pid\":%d",
		   when, now->tv_nsec / 1000, ev->uid, ev->gid, (int)ev->pid);
	add_text(out, "comm", ev->comm);
	add_text(out, "verb", ev->verb);
	add_text(out, "branch", ev->branch);
	add_text(out, "parent", ev->parent);
	add_text(out, "value", ev->value);
	add_text(out, "verdict", verdicts[ev->verdict]);
	add_text(out, "reason", ev->reason);
	str_printf(out, ",\"duration_ms\":%llu.%03u}\n",
		   (unsigned long long)(ev->duration_us / 1000),
		   (unsigned)(ev->duration_us % 1000));
}

static int append_locked(struct audit *a, const struct str *line)
{
	const char *s = a->torn ? line->s : line->s + 1; /* see audit_write */
	size_t len = strlen(s);
	ssize_t n;

	do {
		n = FAULT_FAILS("audit.write", a->path) ? -1 : write(a->fd, s, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	a->torn = (size_t)n < len;
	return a->torn ? -ENOSPC : 0;
}

int audit_write(struct audit *a, const struct audit_event *ev)
{
	CLEAN(str_fini) struct str line = STR_INIT;
	struct timespec now;
	bool room;
	int rc;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
	str_add(&line, "\n"); /* ends a torn line; left out if there is none */
	audit_format(ev, &now, &line);
	LOCK_SCOPE(&a->lock);
	room = has_room_locked(a);
	if (!room && !ev->makes_space)
		rc = -ENOSPC;
	else
		rc = line.failed ? -ENOMEM : append_locked(a, &line);
	if (rc < 0 && !a->failing)
		log_error("%s: cannot write: %s; refusing requests until it can be "
			  "written",
			  a->path, strerrordesc_np(-rc));
	else if (rc == 0 && room && a->failing)
		log_warn("%s: is written again; requests that were refused meanwhile "
			 "are missing",
			 a->path);
	a->failing = rc < 0 || (a->failing && !room);
	return rc;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Without root's rights fusermount3 does what umount2 may not.
 */
#include "fs/mountpoint.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

/* One read of it is one consistent list; thousands of mounts fit. */
#define MOUNTINFO_MAX (16 << 20)
#define FUSERMOUNT_TIMEOUT_MS 30000

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				       (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* Field n (from 0) of a line, cut off in place; *rest goes behind it. */
static char *next_field(char **rest)
{
	char *f = *rest, *end;

	if (!f)
		return NULL;
	end = strchr(f, ' ');
	if (end)
		*end++ = '\0';
	*rest = end;
	return f;
}

/* The device number of the mount of ours at path, if this line of mountinfo is its. */
static bool line_is_ours(char *line, const char *path, dev_t *ret_dev)
{
	char *type = strstr(line, " - ");
	char *field[5] = {NULL}; /* id, parent, device, root, mount point */
	unsigned maj, min;
	size_t i;

	if (!type)
		return false;
	*type = '\0';
	type += 3;
	for (i = 0; i < ARRAY_SIZE(field); i++)
		field[i] = next_field(&line);
	if (!field[4])
		return false;
	unescape(field[4]);
	if (strcmp(field[4], path) ||
	    strcmp(next_field(&type), "fuse." MOUNT_SUBTYPE) ||
	    sscanf(field[2], "%u:%u", &maj, &min) != 2)
		return false;
	*ret_dev = makedev(maj, min);
	return true;
}

/* Is a mount of ours, with that device number unless it is 0, there now? */
static bool is_ours(const char *path, dev_t dev)
{
	CLEAN(clean_free) char *info = NULL;
	char *cursor, *line;
	dev_t found;

	if (fd_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &info, NULL) <
	    0)
		return false;
	cursor = info;
	while ((line = text_next_line(&cursor)))
		if (line_is_ours(line, path, &found) && (!dev || found == dev))
			return true;
	return false;
}

dev_t mountpoint_dev(const char *path)
{
	CLEAN(clean_free) char *info = NULL;
	char *cursor, *line;
	dev_t found = 0, last = 0;

	if (fd_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &info, NULL) <
	    0)
		return 0;
	cursor = info;
	while ((line = text_next_line(&cursor)))
		if (line_is_ours(line, path, &found))
			last = found; /* the topmost comes last */
	return last;
}

static int run_fusermount(const char *path, bool lazily)
{
	static char *const progs[] = {(char *)"/usr/bin/fusermount3",
				      (char *)"/bin/fusermount3",
				      (char *)"/usr/local/bin/fusermount3"};
	char *argv[] = {NULL,         (char *)"-u", (char *)"-q", (char *)"--",
			(char *)path, NULL,         NULL};
	struct proc_spec spec = PROC_SPEC_INIT;
	size_t i;
	int rc;

	if (lazily) {
		argv[3] = (char *)"-z";
		argv[4] = (char *)"--";
		argv[5] = (char *)path;
	}
	for (i = 0; i < ARRAY_SIZE(progs); i++) {
		if (access(progs[i], X_OK) < 0)
			continue;
		argv[0] = progs[i];
		spec.argv = argv;
		rc = proc_run(&spec, FUSERMOUNT_TIMEOUT_MS, NULL);
		if (rc < 0)
			return rc;
		return rc == 0 ? 0 : -EBUSY;
	}
	return -ENOENT;
}

static int unmount_once(const char *path, bool lazily)
{
	if (umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0)
		return 0;
	return errno == EPERM ? run_fusermount(path, lazily) : -errno;
}

int mountpoint_clear(const char *path, struct err *e)
{
	struct statfs st;
	int rc;

	/* not stat: the kernel answers that from its cache after the daemon's end */
	if (statfs(path, &st) == 0 || errno != ENOTCONN)
		return 0;
	if (!is_ours(path, 0))
		return err_set(e, -ENOTCONN, "%s is a dead mount of something else",
			       path);
	log_info("%s: taking off the mount of a daemon that is gone", path);
	rc = unmount_once(path, true);
	if (rc < 0)
		return err_set(e, rc, "cannot take off the dead mount at %s: %s", path,
			       strerror(-rc));
	return 0;
}

int mountpoint_detach(const char *path, dev_t dev, bool *ret_busy)
{
	int rc;

	*ret_busy = true;
	if (!is_ours(path, dev))
		return 0; /* somebody took it off, lazily for all that we know */
	rc = unmount_once(path, false);
	if (rc != -EBUSY) {
		*ret_busy = false;
		return rc;
	}
	log_warn("%s is in use, taking it out of sight; those in it get errors", path);
	return unmount_once(path, true);
}

static void write_limit(dev_t dev, const char *name, const char *value)
{
	CLEAN(clean_free)
	char *path =
		text_format("/sys/class/bdi/%u:%u/%s", major(dev), minor(dev), name);
	CLEAN(clean_fd) int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	int rc = fd < 0 ? -errno : fd_write_full(fd, value, strlen(value));

	if (rc < 0)
		log_debug("bdi limit %s stays as it is: %s", name, strerror(-rc));
}

void mountpoint_tune(dev_t dev)
{
	/* else a FUSE mount may hold 1 % of the dirty limit, and writers wait */
	write_limit(dev, "strict_limit", "0");
	write_limit(dev, "max_ratio", "100");
	write_limit(dev, "read_ahead_kb", "512");
}

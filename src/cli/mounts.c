/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line of mountinfo is "id parent major:minor root MOUNTPOINT options ... - TYPE
 * SOURCE options", with blanks and backslashes in paths as octal escapes.
 *
 * realpath(3) asks the last component itself, which a dead FUSE mount answers
 * with ENOTCONN; then the parent's path and the name have to do.
 */
#include "cli/mounts.h"

#include "base/fd.h"
#include "base/text.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MOUNTINFO_BYTES_MAX (16 * 1024 * 1024)

void mount_entry_fini(struct mount_entry *m)
{
	free(m->mountpoint);
	free(m->store);
	*m = (struct mount_entry){NULL, NULL, 0};
}

void mounts_fini(struct mount_list *list)
{
	int saved = errno;

	for (size_t i = 0; i < list->n; i++)
		mount_entry_fini(&list->entries[i]);
	free(list->entries);
	*list = (struct mount_list)MOUNT_LIST_INIT;
	errno = saved;
}

static bool is_octal(const char *s)
{
	for (int i = 0; i < 3; i++) {
		if (s[i] < '0' || s[i] > '7')
			return false;
	}
	return true;
}

/* Undoes the kernel's \040 in place; the result is never longer. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && is_octal(s + 1)) {
			*to++ = (char)(((s[1] - '0') << 6) | ((s[2] - '0') << 3) |
				       (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

static int list_add(struct mount_list *list, char *mountpoint, char *source,
		    const char *dev)
{
	struct mount_entry *grown =
		reallocarray(list->entries, list->n + 1, sizeof(*grown));
	struct mount_entry m;

	if (!grown)
		return -ENOMEM;
	list->entries = grown;
	unescape(mountpoint);
	unescape(source);
	m = (struct mount_entry){strdup(mountpoint), strdup(source), 0};
	if (sscanf(dev, "%*u:%u", &m.dev_minor) != 1)
		m.dev_minor = 0;
	if (!m.mountpoint || !m.store) {
		mount_entry_fini(&m);
		return -ENOMEM;
	}
	list->entries[list->n++] = m;
	return 0;
}

static int parse_line(char *line, struct mount_list *list)
{
	char *dash = strstr(line, " - "), *fields, *word[5];
	const char *type;
	char *source;

	if (!dash)
		return 0;
	*dash = '\0';
	fields = dash + strlen(" - ");
	type = strsep(&fields, " ");
	source = strsep(&fields, " ");
	if (!source || strcmp(type, MOUNT_FSTYPE) != 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(word); i++)
		word[i] = strsep(&line, " ");
	return word[4] ? list_add(list, word[4], source, word[2]) : 0;
}

int mounts_parse(char *text, struct mount_list *ret_list)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;
	char *cursor = text, *line;

	while ((line = text_next_line(&cursor))) {
		int rc = parse_line(line, &list);

		if (rc < 0)
			return rc;
	}
	*ret_list = list;
	list = (struct mount_list)MOUNT_LIST_INIT;
	return 0;
}

int mounts_load(struct mount_list *ret_list, struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	int rc = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_BYTES_MAX,
			      &text, NULL);

	if (rc == 0)
		rc = mounts_parse(text, ret_list);
	if (rc < 0)
		return err_set(e, rc, "cannot read /proc/self/mountinfo: %s",
			       strerrordesc_np(-rc));
	return 0;
}

const struct mount_entry *mounts_find(const struct mount_list *list, const char *path)
{
	for (size_t i = list->n; i-- > 0;) {
		if (strcmp(list->entries[i].mountpoint, path) == 0)
			return &list->entries[i];
	}
	return NULL;
}

/* 0, or why the directory cannot be used; stat(2) would be answered from the kernel's
 * cache long after the daemon's end. */
static int ask_directory(const char *path)
{
	struct statfs st;

	return statfs(path, &st) < 0 ? -errno : 0;
}

/* The path of a directory that cannot be asked itself. */
static char *resolve_by_parent(const char *path)
{
	CLEAN(clean_free) char *copy = strdup(path), *parent = NULL;
	const char *name;
	char *slash;

	if (!copy)
		return NULL;
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		errno = ENOTCONN;
		return NULL;
	}
	if (slash == copy)
		return strdup(copy);
	if (slash)
		*slash = '\0';
	parent = realpath(slash ? copy : ".", NULL);
	if (!parent)
		return NULL;
	return text_format("%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name);
}

int mounts_resolve(const char *path, char **ret_path, bool *ret_dead, struct err *e)
{
	CLEAN(clean_free) char *abs = realpath(path, NULL);
	bool dead;
	struct stat st;
	int rc;

	if (!abs && errno == ENOTCONN)
		abs = resolve_by_parent(path);
	if (!abs) {
		rc = -errno;
		(void)err_set(e, rc, "cannot use '%s': %s", path, strerrordesc_np(-rc));
		if (rc == -ENOENT)
			(void)err_hint(e, "make the directory first");
		return rc;
	}
	rc = ask_directory(abs);
	dead = rc == -ENOTCONN;
	if (rc == 0 && stat(abs, &st) < 0)
		rc = -errno;
	/* another user's mount lives, but answers root with EACCES */
	if (rc < 0 && !dead && rc != -EACCES)
		return err_set(e, rc, "cannot use '%s': %s", abs, strerrordesc_np(-rc));
	if (rc == 0 && !S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "'%s' is not a directory", abs);
	*ret_path = steal(abs);
	*ret_dead = dead;
	return 0;
}

static int copy_entry(const struct mount_entry *m, struct mount_entry *ret_entry,
		      struct err *e)
{
	struct mount_entry copy = {strdup(m->mountpoint), strdup(m->store),
				   m->dev_minor};

	if (!copy.mountpoint || !copy.store) {
		mount_entry_fini(&copy);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret_entry = copy;
	return 0;
}

/* The single mount of the list, however often it was bound elsewhere. */
static int choose_only(const struct mount_list *list, struct mount_entry *ret_entry,
		       struct err *e)
{
	if (list->n == 0) {
		(void)err_set(e, -ENOENT, "no pgbranchfs is mounted here");
		return err_hint(e, "pgbranchfs mount STORE MOUNTPOINT mounts one");
	}
	for (size_t i = 1; i < list->n; i++) {
		if (strcmp(list->entries[i].mountpoint, list->entries[0].mountpoint) ==
		    0)
			continue;
		(void)err_set(e, -EINVAL, "more than one pgbranchfs is mounted");
		return err_hint(e, "say which: %s or %s", list->entries[0].mountpoint,
				list->entries[i].mountpoint);
	}
	return copy_entry(&list->entries[list->n - 1], ret_entry, e);
}

int mounts_choose(const char *path, struct mount_entry *ret_entry, bool *ret_dead,
		  struct err *e)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;
	CLEAN(clean_free) char *abs = NULL;
	const struct mount_entry *m;
	int rc = mounts_load(&list, e);

	if (rc < 0)
		return rc;
	if (!path) {
		rc = choose_only(&list, ret_entry, e);
		if (rc == 0)
			*ret_dead = ask_directory(ret_entry->mountpoint) == -ENOTCONN;
		return rc;
	}
	rc = mounts_resolve(path, &abs, ret_dead, e);
	if (rc < 0)
		return rc;
	m = mounts_find(&list, abs);
	if (!m) {
		(void)err_set(e, -EINVAL, "no pgbranchfs is mounted at '%s'", abs);
		if (list.n > 0)
			(void)err_hint(e, "there is one at %s",
				       list.entries[0].mountpoint);
		return -EINVAL;
	}
	return copy_entry(m, ret_entry, e);
}

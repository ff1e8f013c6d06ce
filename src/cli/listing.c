/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands read the mount's files instead of talking to the daemon: they see
 * what any script sees, with the caller's own rights.  A branch whose directory
 * is closed to the caller is listed by its name alone; one that is discarded
 * meanwhile is left out.
 */
#include "cli/listing.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define STATUS_BYTES_MAX (64 * 1024)

static void row_fini(struct listing_row *row)
{
	free(row->name);
	free(row->state);
	free(row->parent);
	free(row->owner);
	*row = (struct listing_row){.name = NULL};
}

void listing_fini(struct listing *l)
{
	int saved = errno;

	for (size_t i = 0; i < l->n; i++)
		row_fini(&l->rows[i]);
	free(l->rows);
	*l = (struct listing)LISTING_INIT;
	errno = saved;
}

static void clean_dir(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* it was only read */
}

static int take_field(struct listing_row *row, const char *key, const char *value)
{
	char **text = NULL;

	if (strcmp(key, "state") == 0)
		text = &row->state;
	else if (strcmp(key, "parent") == 0)
		text = &row->parent;
	else if (strcmp(key, "owner") == 0)
		text = &row->owner;
	if (text) {
		free(*text);
		*text = strdup(value);
		return *text ? 0 : -ENOMEM;
	}
	if (strcmp(key, "parent_gone") == 0)
		return text_parse_bool(value, &row->parent_gone);
	if (strcmp(key, "depth") == 0)
		return text_parse_u64(value, 10, UINT64_MAX, &row->depth);
	if (strcmp(key, "bytes") == 0)
		return text_parse_u64(value, 10, UINT64_MAX, &row->bytes);
	if (strcmp(key, "created") == 0)
		return text_parse_time(value, &row->created);
	if (strcmp(key, "last_active") == 0 && strcmp(value, "-") != 0)
		return text_parse_time(value, &row->last_active);
	return 0; /* a key of a newer daemon */
}

static int parse_status(char *text, struct listing_row *row)
{
	char *cursor = text, *line;

	while ((line = text_next_line(&cursor))) {
		char *value = strchr(line, ' ');
		int rc;

		if (!value)
			return -EBADMSG;
		*value++ = '\0';
		rc = take_field(row, line, value);
		if (rc < 0)
			return rc == -ENOMEM ? rc : -EBADMSG;
	}
	return row->state && row->parent && row->owner ? 0 : -EBADMSG;
}

static int load_row(int dirfd, const char *name, struct listing_row *ret_row)
{
	CLEAN(row_fini) struct listing_row row = {.name = strdup(name)};
	CLEAN(clean_free) char *path = text_format("%s/status", name), *text = NULL;
	int rc = row.name && path ? 0 : -ENOMEM;

	if (rc == 0)
		rc = fd_read_file(dirfd, path, STATUS_BYTES_MAX, &text, NULL);
	if (rc == 0)
		rc = parse_status(text, &row);
	if (rc < 0 && rc != -EACCES)
		return rc;
	*ret_row = row;
	row = (struct listing_row){.name = NULL};
	return 0;
}

static int compare_rows(const void *a, const void *b)
{
	return strcmp(((const struct listing_row *)a)->name,
		      ((const struct listing_row *)b)->name);
}

static int add_row(struct listing *l, int dirfd, const char *name)
{
	struct listing_row *grown = reallocarray(l->rows, l->n + 1, sizeof(*grown));
	int rc;

	if (!grown)
		return -ENOMEM;
	l->rows = grown;
	rc = load_row(dirfd, name, &l->rows[l->n]);
	if (rc == -ENOENT || rc == -ENOTDIR) /* discarded meanwhile; README */
		return 0;
	if (rc == 0)
		l->n++;
	return rc;
}

int listing_load(const char *mountpoint, struct listing *ret_listing, struct err *e)
{
	CLEAN(listing_fini) struct listing l = LISTING_INIT;
	CLEAN(clean_dir) DIR *d = opendir(mountpoint);
	const struct dirent *ent;
	int rc = 0;

	if (!d) {
		rc = -errno;
		return err_set(e, rc, "cannot read '%s': %s", mountpoint,
			       strerrordesc_np(-rc));
	}
	errno = 0;
	while (rc == 0 && (ent = readdir(d))) {
		if (ent->d_name[0] == '.')
			continue;
		rc = add_row(&l, dirfd(d), ent->d_name);
		if (rc < 0)
			return err_set(e, rc, "cannot read the status of '%s': %s",
				       ent->d_name, strerrordesc_np(-rc));
		errno = 0;
	}
	if (errno != 0) {
		rc = -errno;
		return err_set(e, rc, "cannot read '%s': %s", mountpoint,
			       strerrordesc_np(-rc));
	}
	if (l.n > 0)
		qsort(l.rows, l.n, sizeof(*l.rows), compare_rows);
	*ret_listing = l;
	l = (struct listing)LISTING_INIT;
	return 0;
}

int listing_json(const char *mountpoint, const struct listing *l, struct str *out,
		 struct err *e)
{
	const char *comma = "";

	str_add(out, "[");
	for (size_t i = 0; i < l->n; i++) {
		CLEAN(clean_free) char *path = NULL, *text = NULL;
		size_t len = 0;
		int rc;

		if (!l->rows[i].state)
			continue;
		path = text_format("%s/%s/status.json", mountpoint, l->rows[i].name);
		rc = path ? fd_read_file(AT_FDCWD, path, STATUS_BYTES_MAX, &text, &len)
			  : -ENOMEM;
		if (rc == -ENOENT)
			continue;
		if (rc < 0)
			return err_set(e, rc, "cannot read '%s': %s",
				       path ? path : "status", strerrordesc_np(-rc));
		while (len > 0 && text[len - 1] == '\n')
			text[--len] = '\0';
		str_printf(out, "%s\n%s", comma, text);
		comma = ",";
	}
	str_add(out, "\n]");
	return out->failed ? err_set(e, -ENOMEM, "out of memory") : 0;
}

void listing_size(uint64_t bytes, char buf[static 8])
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		(void)snprintf(buf, 8, "%u", (unsigned)bytes);
		return;
	}
	for (v /= 1024; v >= 1023.5 && unit + 1 < strlen(units); unit++)
		v /= 1024;
	(void)snprintf(buf, 8, v < 9.95 ? "%.1f%c" : "%.0f%c", v, units[unit]);
}

void listing_age(time_t seconds, char buf[static 24])
{
	long long s = seconds > 0 ? seconds : 0;

	if (s < 60)
		(void)snprintf(buf, 24, "%llds", s);
	else if (s < 3600)
		(void)snprintf(buf, 24, "%lldm", s / 60);
	else if (s < 86400)
		(void)snprintf(buf, 24, "%lldh%lldm", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(buf, 24, "%lldd", s / 86400);
}

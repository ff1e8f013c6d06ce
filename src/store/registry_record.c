/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_record.c - the files in branches/: written, moved, removed, each durable
 * when it is done, and the names in them.
 *
 * A change whose record cannot be made durable is taken back on disk, so that memory
 * and disk agree.  A failed fsync of the directory of records cannot be: from then on
 * no change of a record is accepted until the store is mounted again.
 */
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void record_path(const char *name, char buf[static RECORD_PATH_MAX])
{
	(void)snprintf(buf, RECORD_PATH_MAX, "branches/%s.ini", name);
}

/* Does what was done to branches/ survive a power cut? */
int records_sync(struct registry *r)
{
	uint64_t mark;
	int rc;

	dsync_mark(&r->store.records);
	rc = dsync_begin(&r->store.records, &mark);
	if (rc <= 0)
		return rc;
	rc = fd_sync_dir(r->store.fd, "branches");
	if (rc < 0)
		log_error("%s/branches: fsync failed: %s; no branch can be made or "
			  "changed until the store is mounted again",
			  r->path, strerror(-rc));
	return dsync_end(&r->store.records, mark, rc);
}

int records_failed(struct registry *r)
{
	return atomic_load(&r->store.records.failed);
}

/* The record's text, which holds the name of its file. */
static char *record_text(const char *name, const struct branch_meta *meta)
{
	struct branch_meta m = *meta;

	(void)snprintf(m.name, sizeof(m.name), "%s", name);
	return branch_meta_encode(&m);
}

int record_write(struct registry *r, const char *name, const char *text)
{
	char path[RECORD_PATH_MAX];
	int rc = records_failed(r);

	if (rc < 0)
		return rc;
	record_path(name, path);
	rc = fd_replace_file(r->store.fd, path, text, strlen(text), 0600, 0);
	return rc < 0 ? rc : records_sync(r);
}

int registry_save(struct registry *r, const char *name, const struct branch_meta *meta)
{
	CLEAN(clean_free) char *text = record_text(name, meta);

	return text ? record_write(r, name, text) : -ENOMEM;
}

void record_note_misnamed(struct registry *r, struct branch *b)
{
	if (!b->misnamed)
		r->misnamed++;
	b->misnamed = true;
}

static int settle_table(struct registry *r, struct branch *by_no, struct err *e)
{
	for (struct branch *b = by_no; b; b = b->hh_no.next) {
		const char *name = branch_record_name(b);
		int rc = b->misnamed ? registry_save(r, name, &b->meta) : 0;

		if (rc < 0)
			return err_set(e, rc,
				       "cannot write the record of branch '%s': %s",
				       name, strerror(-rc));
		b->misnamed = false;
	}
	return 0;
}

/*
 * A record with a branch's old name inside is found out as that branch's own only
 * while no other file has that name.  So it is put right before a name is taken.
 */
int record_settle_names(struct registry *r, struct err *e)
{
	int rc;

	if (r->misnamed == 0)
		return 0;
	rc = settle_table(r, r->by_no, e);
	if (rc == 0)
		rc = settle_table(r, r->trash_by_no, e);
	if (rc == 0)
		r->misnamed = 0;
	return rc;
}

/* The name of a record that cannot be served is not free: it would be lost. */
int record_check_free(struct registry *r, const char *name, struct err *e)
{
	char path[RECORD_PATH_MAX];
	struct stat st;

	record_path(name, path);
	if (fstatat(r->store.fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0
				       : err_set(e, -errno, "cannot look for %s/%s: %s",
						 r->path, path, strerror(errno));
	err_set(e, -EEXIST, "branch '%s' exists, but its record %s/%s is damaged", name,
		r->path, path);
	return err_hint(e, "put the record back from a copy of the store, or move it "
			   "out of the way, and mount again");
}

static int move_record(struct registry *r, const char *from, const char *to)
{
	int fd = r->store.fd, rc;

	if (FAULT_FAILS("registry.rename", from) || renameat(fd, from, fd, to) < 0)
		return -errno;
	FAULT_POINT("registry.renamed");
	rc = records_sync(r);
	if (rc < 0 && renameat(fd, to, fd, from) < 0)
		log_error("%s/%s: cannot take its new name back: %m; the next mount "
			  "has the new name",
			  r->path, from);
	return rc;
}

int record_rename(struct registry *r, struct branch *b, const char *from,
		  const char *to, const struct branch_meta *meta, struct err *e)
{
	char from_path[RECORD_PATH_MAX], to_path[RECORD_PATH_MAX];
	int rc = records_failed(r);

	record_path(from, from_path);
	record_path(to, to_path);
	if (rc == 0)
		rc = move_record(r, from_path, to_path);
	if (rc < 0)
		return err_set(e, rc, "cannot rename the record of branch '%s': %s",
			       from, strerror(-rc));
	/* the branch has its new name, whatever becomes of the one in the record; the
	 * file's is durable by now, as the one inside must not outlive it */
	if (registry_save(r, to, meta) < 0) {
		log_warn("branch %s: cannot write its new name into its record; trying "
			 "again later",
			 to);
		record_note_misnamed(r, b);
	}
	FAULT_POINT("registry.renamed-inside");
	return 0;
}

void record_put_back(struct registry *r, const char *name,
		     const struct branch_meta *meta)
{
	CLEAN(clean_free) char *text = record_text(name, meta);
	char path[RECORD_PATH_MAX];
	int rc = -ENOMEM;

	record_path(name, path);
	if (text)
		rc = fd_replace_file(r->store.fd, path, text, strlen(text), 0600, 0);
	if (rc < 0)
		log_error("%s/%s: cannot take back what may be in it: %s; the next "
			  "mount may find the branch changed",
			  r->path, path, strerror(-rc));
}

int record_undo(struct registry *r, const char *name)
{
	char path[RECORD_PATH_MAX];

	record_path(name, path);
	if (unlinkat(r->store.fd, path, 0) == 0 || errno == ENOENT)
		return 0;
	return -errno;
}

int record_unlink(struct registry *r, const char *name, const char *text)
{
	char path[RECORD_PATH_MAX];
	int rc, undo;

	record_path(name, path);
	if (FAULT_FAILS("registry.unlink", path) || unlinkat(r->store.fd, path, 0) < 0)
		return -errno;
	FAULT_POINT("registry.record-removed");
	rc = records_sync(r);
	if (rc == 0)
		return 0;
	undo = fd_replace_file(r->store.fd, path, text, strlen(text), 0600, 0);
	if (undo < 0)
		log_error("%s/%s: cannot put the record back: %s; what it describes is "
			  "gone at the next mount",
			  r->path, path, strerror(-undo));
	return rc;
}

int record_remove(struct registry *r, const char *name, const struct branch_meta *meta)
{
	CLEAN(clean_free) char *text = record_text(name, meta);

	return text ? record_unlink(r, name, text) : -ENOMEM;
}

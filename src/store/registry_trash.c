/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_trash.c - branches that were discarded and are kept for a while.
 *
 * One step on disk makes the difference: the record's file has another name,
 * branches/NAME@TIME.ini, and with it the branch is out of sight; its number and its
 * layers stay its own.  As with any rename the name inside follows, and a crash between
 * is found out (registry_read.c).  It comes back by the same step the other way; what
 * is to be different then is written before.
 *
 * In memory it is the same struct branch, discarded for all who still hold it; a
 * reference that finds it again is given out only by the functions here.
 */
#include "store/checkpoint_priv.h"
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct branch *registry_find_trashed(struct registry *r, const char *trash_name)
{
	struct branch *b = NULL;

	READ_SCOPE(&r->table);
	HASH_FIND(hh_name, r->trash_by_name, trash_name, (unsigned)strlen(trash_name),
		  b);
	return b ? branch_get(b) : NULL;
}

struct branch *registry_find_trashed_no(struct registry *r, uint32_t no)
{
	struct branch *b = NULL;

	READ_SCOPE(&r->table);
	HASH_FIND(hh_no, r->trash_by_no, &no, sizeof(no), b);
	return b ? branch_get(b) : NULL;
}

/* Is the name free, also of a record that could not be read? */
static bool is_free(struct registry *r, const char *trash_name)
{
	struct branch *b = registry_find_trashed(r, trash_name);
	char path[RECORD_PATH_MAX];
	struct stat st;

	if (b) {
		branch_put(b);
		return false;
	}
	record_path(trash_name, path);
	return fstatat(r->store.fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	       errno == ENOENT;
}

static void choose_name(struct registry *r, const struct branch *b,
			char buf[static TRASH_NAME_MAX])
{
	struct timespec now;
	long usec;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
	trash_name_format(b->name, now.tv_sec, -1, buf);
	for (usec = now.tv_nsec / 1000; !is_free(r, buf); usec++)
		trash_name_format(b->name, now.tv_sec, usec, buf);
}

int registry_trash(struct registry *r, struct branch *b, struct err *e)
{
	char name[TRASH_NAME_MAX];
	struct branch_meta m;
	int rc;

	LOCK_SCOPE(&r->change);
	rc = registry_check_discard(b, e);
	if (rc < 0)
		return rc;
	choose_name(r, b, name);
	m = b->meta;
	m.last_active = atomic_load(&b->last_active);
	rc = record_rename(r, b, b->name, name, &m, e);
	if (rc < 0)
		return rc;
	FAULT_POINT("registry.trashed");
	WRITE_SCOPE(&r->table);
	data_number_drop_locked(r, b);
	HASH_DELETE(hh_no, r->by_no, b);
	HASH_DELETE(hh_name, r->by_name, b);
	memcpy(b->trash, name, sizeof(b->trash));
	atomic_store(&b->trashed, true);
	atomic_store(&b->discarded, true);
	if (registry_add_to(&r->trash_by_no, &r->trash_by_name, b, b->trash) < 0)
		log_error("branch %s: out of memory; it is seen in the trash at the "
			  "next mount",
			  name);
	return 0;
}

/* What is different when it comes back is durable before it does. */
static int prepare_restore(struct registry *r, struct branch *b, struct branch_meta *m,
			   time_t expires, struct err *e)
{
	int rc;

	*m = b->meta;
	m->last_active = time(NULL);
	if (m->expires == expires)
		return 0;
	m->expires = expires;
	rc = registry_save(r, b->trash, m);
	if (rc < 0)
		return err_set(e, rc, "cannot write the record of branch '%s': %s",
			       b->trash, strerror(-rc));
	FAULT_POINT("registry.restore-prepared");
	return 0;
}

int registry_restore(struct registry *r, struct branch *b, const char *name,
		     time_t expires, struct err *e)
{
	struct branch_meta m;
	int rc;

	LOCK_SCOPE(&r->change);
	if (!atomic_load(&b->trashed))
		return err_set(e, -ENOENT, "branch '%s' is not in the trash any more",
			       b->name);
	rc = registry_check_name(r, name, e);
	if (rc == 0)
		rc = prepare_restore(r, b, &m, expires, e);
	if (rc == 0)
		rc = record_rename(r, b, b->trash, name, &m, e);
	if (rc < 0)
		return rc;
	FAULT_POINT("registry.restored");
	atomic_store(&b->last_active, m.last_active);
	atomic_fetch_add(&b->lives, 1);
	WRITE_SCOPE(&r->table);
	HASH_DELETE(hh_no, r->trash_by_no, b);
	HASH_DELETE(hh_name, r->trash_by_name, b);
	(void)snprintf(b->name, sizeof(b->name), "%s", name);
	b->trash[0] = '\0';
	{
		LOCK_SCOPE(&b->lock);
		b->meta = m;
	}
	atomic_store(&b->trashed, false);
	atomic_store(&b->discarded, false);
	registry_name_in_children(r, b);
	if (data_number_add_locked(r, b) < 0 ||
	    registry_add_to(&r->by_no, &r->by_name, b, b->name) < 0)
		log_error("branch %s: out of memory; it is back at the next mount",
			  name);
	return 0;
}

int registry_purge(struct registry *r, struct branch *b, struct err *e)
{
	int rc;

	LOCK_SCOPE(&r->change);
	if (!atomic_load(&b->trashed))
		return err_set(e, -ENOENT, "branch '%s' is not in the trash any more",
			       b->name);
	checkpoints_before_discard(r, b);
	rc = records_failed(r);
	if (rc == 0)
		rc = record_remove(r, b->trash, &b->meta);
	if (rc < 0)
		return err_set(e, rc, "cannot remove the record of branch '%s': %s",
			       b->trash, strerror(-rc));
	{
		WRITE_SCOPE(&r->table);
		HASH_DELETE(hh_no, r->trash_by_no, b);
		HASH_DELETE(hh_name, r->trash_by_name, b);
		atomic_store(&b->trashed, false);
	}
	registry_forget(r, b);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * branch.c - one branch in memory: its record, its overlays, its files in run/.
 */
#include "store/checkpoint_priv.h"
#include "store/registry_priv.h"

#include "base/fd.h"
#include "base/log.h"
#include "store/overlay_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct branch *branch_new(struct registry *r, const char *name,
			  const struct branch_meta *meta, struct layer *top)
{
	struct branch *b = calloc(1, sizeof(*b));

	if (!b) {
		layer_put(top);
		return NULL;
	}
	b->reg = r;
	b->no = meta->no;
	b->meta = *meta;
	b->top = top;
	atomic_init(&b->refs, 1);
	atomic_init(&b->last_active, meta->last_active);
	atomic_fetch_add(&top->users, 1);
	(void)snprintf(b->name, sizeof(b->name), "%s", name);
	(void)pthread_mutex_init(&b->lock, NULL);
	(void)pthread_mutex_init(&b->quota.lock, NULL);
	return b;
}

struct branch *branch_get(struct branch *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

static void run_path(const struct branch *b, const char *suffix, char buf[static 32])
{
	(void)snprintf(buf, 32, "run/%u%s", b->no, suffix);
}

/* A discarded branch leaves nothing in run/. */
static void remove_run(struct branch *b)
{
	char path[32];

	run_path(b, "", path);
	(void)fd_remove_tree(b->reg->store.fd, path); /* wiped at the next mount */
	run_path(b, ".log", path);
	(void)unlinkat(b->reg->store.fd, path, 0);
}

struct branch *branch_put(struct branch *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return NULL;
	overlay_put(b->data);
	overlay_put(b->run);
	if (atomic_load(&b->discarded) && !atomic_load(&b->trashed))
		remove_run(b);
	layer_put(b->top);
	(void)pthread_mutex_destroy(&b->lock);
	(void)pthread_mutex_destroy(&b->quota.lock);
	free(b);
	return NULL;
}

uint32_t branch_no(const struct branch *b)
{
	return b->no;
}

uint32_t branch_data_no(struct branch *b)
{
	LOCK_SCOPE(&b->lock);
	return b->meta.data_no ? b->meta.data_no : b->no;
}

uint64_t branch_generation(const struct branch *b)
{
	return atomic_load(&b->lives);
}

uint64_t branch_data_generation(const struct branch *b)
{
	return (uint64_t)atomic_load(&b->lives) + atomic_load(&b->data_renewed);
}

void branch_renew_data(struct branch *b)
{
	atomic_fetch_add(&b->data_renewed, 1);
}

void branch_touch(struct branch *b)
{
	atomic_store(&b->last_active, (long long)time(NULL));
}

void branch_info(struct branch *b, struct branch_info *ret)
{
	char name[NAME_LEN_MAX + 1];
	struct registry *r = b->reg;
	struct branch_meta m;
	struct branch *parent = NULL;

	memset(ret, 0, sizeof(*ret));
	READ_SCOPE(&r->table);
	{
		LOCK_SCOPE(&b->lock);
		m = b->meta;
		ret->depth = layer_depth(b->top);
		ret->loaded = b->data || b->run;
	}
	checkpoints_count_locked(r, b->no, &ret->checkpoints, &ret->automatic);
	(void)snprintf(ret->name, sizeof(ret->name), "%s", b->name);
	(void)snprintf(ret->parent, sizeof(ret->parent), "%s", m.parent);
	memcpy(ret->parent_checkpoint, m.parent_checkpoint,
	       sizeof(ret->parent_checkpoint));
	if (m.parent_no) {
		HASH_FIND(hh_no, r->by_no, &m.parent_no, sizeof(m.parent_no), parent);
		ret->parent_gone = !parent;
		if (parent)
			(void)snprintf(ret->parent, sizeof(ret->parent), "%s",
				       parent->name);
	}
	ret->no = b->no;
	ret->created = (time_t)m.created;
	ret->last_active = (time_t)atomic_load(&b->last_active);
	ret->expires = (time_t)m.expires;
	ret->owner = m.owner;
	ret->group = m.group;
	ret->mode = m.mode;
	ret->is_protected = m.is_protected;
	ret->prepared = m.prepared;
	ret->started = m.started;
	ret->stopped_by_hand = m.stopped_by_hand;
	ret->server_uid = m.server_uid;
	ret->server_gid = m.server_gid;
	memcpy(ret->make_role, m.make_role, sizeof(ret->make_role));
	ret->masking = m.masking;
	memcpy(ret->masked, m.masked, sizeof(ret->masked));
	ret->discarded = atomic_load(&b->discarded);
	memcpy(ret->trash_name, b->trash, sizeof(ret->trash_name));
	if (b->trash[0] && trash_name_parse(b->trash, name, &ret->trashed) < 0)
		ret->trashed = 0; /* cannot be: it has been checked */
}

/* Writes the changed record, then lets memory have it. */
static int save_meta(struct branch *b, struct branch_meta *m, struct err *e)
{
	int rc;

	if (atomic_load(&b->discarded))
		return err_set(e, -ENOENT, "branch '%s' is gone", b->name);
	m->last_active = atomic_load(&b->last_active);
	rc = registry_save(b->reg, b->name, m);
	if (rc < 0)
		return err_set(e, rc, "cannot write the record of branch '%s': %s",
			       b->name, strerror(-rc));
	LOCK_SCOPE(&b->lock);
	b->meta = *m;
	b->unsaved = false;
	return 0;
}

/*
 * After a crash a branch is taken for unused from the time in its record on, and may
 * be discarded for it; so that must not be older than this.
 */
#define ACTIVITY_SAVE_S 3600

int branch_save_activity(struct branch *b)
{
	struct branch_meta m;

	LOCK_SCOPE(&b->reg->change);
	m = b->meta;
	if (atomic_load(&b->discarded) ||
	    atomic_load(&b->last_active) - m.last_active < ACTIVITY_SAVE_S)
		return 0;
	return save_meta(b, &m, NULL);
}

int branch_set_flag(struct branch *b, enum branch_flag flag, bool on, struct err *e)
{
	struct branch_meta m;
	bool *p;

	LOCK_SCOPE(&b->reg->change);
	m = b->meta;
	p = flag == BRANCH_PREPARED          ? &m.prepared
	    : flag == BRANCH_STARTED         ? &m.started
	    : flag == BRANCH_STOPPED_BY_HAND ? &m.stopped_by_hand
					     : &m.is_protected;
	if (*p == on)
		return 0;
	*p = on;
	return save_meta(b, &m, e);
}

int branch_set_access(struct branch *b, const struct branch_access *a, struct err *e)
{
	struct branch_meta m;

	LOCK_SCOPE(&b->reg->change);
	m = b->meta;
	if (a->mode != (mode_t)-1)
		m.mode = a->mode & 07777;
	if (a->owner != (uid_t)-1)
		m.owner = a->owner;
	if (a->group != (gid_t)-1)
		m.group = a->group;
	if (a->set_server) {
		m.server_uid = a->server_uid;
		m.server_gid = a->server_gid;
	}
	return save_meta(b, &m, e);
}

int branch_clear_make_role(struct branch *b, struct err *e)
{
	struct branch_meta m;

	LOCK_SCOPE(&b->reg->change);
	m = b->meta;
	m.make_role[0] = '\0';
	return save_meta(b, &m, e);
}

int branch_end_masking(struct branch *b, const char *masked, struct err *e)
{
	struct branch_meta m;

	LOCK_SCOPE(&b->reg->change);
	m = b->meta;
	m.masking = false;
	(void)snprintf(m.masked, sizeof(m.masked), "%s", masked);
	return save_meta(b, &m, e);
}

struct layer *branch_top(struct branch *b)
{
	LOCK_SCOPE(&b->lock);
	return layer_get(b->top);
}

int branch_set_expires(struct branch *b, time_t expires, struct err *e)
{
	struct branch_meta m;

	LOCK_SCOPE(&b->reg->change);
	m = b->meta;
	if (m.expires == expires)
		return 0;
	m.expires = expires;
	return save_meta(b, &m, e);
}

int branch_data_get(struct branch *b, struct overlay **ret_overlay)
{
	int rc;

	LOCK_SCOPE(&b->lock);
	metric_add(b->data ? &b->reg->tree_hits : &b->reg->tree_misses, 1);
	if (!b->data) {
		rc = overlay_new(layer_get(b->top),
				 b->meta.data_no ? b->meta.data_no : b->no, &b->data);
		if (rc < 0)
			return rc;
	}
	b->data->touched = true;
	*ret_overlay = overlay_get(b->data);
	return 0;
}

/* Without loading it, nor keeping it from being unloaded: NULL if it is not. */
static struct overlay *get_loaded(struct branch *b, struct overlay *const *o)
{
	LOCK_SCOPE(&b->lock);
	return *o ? overlay_get(*o) : NULL;
}

int branch_sync(struct branch *b)
{
	CLEAN(overlay_putp) struct overlay *o = get_loaded(b, &b->data);

	if (!o || (atomic_load(&b->discarded) && !atomic_load(&b->trashed)))
		return 0;
	return overlay_sync(o);
}

int branch_run_get(struct branch *b, struct overlay **ret_overlay)
{
	LOCK_SCOPE(&b->lock);
	if (!b->run) {
		char dir[32];
		struct layer *l;
		int rc;

		run_path(b, "", dir);
		l = layer_new_scratch(&b->reg->store, dir);
		if (!l)
			return -ENOMEM;
		if (b->run_fid > l->max_fid)
			l->max_fid = b->run_fid;
		rc = layer_make_dirnames(l, OVERLAY_ROOT, 0700, NULL);
		if (rc < 0) {
			layer_put(l);
			return rc;
		}
		rc = overlay_new(l, b->no, &b->run);
		if (rc < 0)
			return rc;
	}
	b->run->touched = true;
	*ret_overlay = overlay_get(b->run);
	return 0;
}

struct name_list {
	char **v;
	size_t n;
};

static bool collect_name(void *ctx, const char *name, uint64_t fid, mode_t type,
			 uint64_t cookie)
{
	struct name_list *ls = ctx;
	char **v = realloc(ls->v, (ls->n + 1) * sizeof(char *));

	(void)fid;
	(void)type;
	(void)cookie;
	if (!v)
		return false;
	ls->v = v;
	ls->v[ls->n] = strdup(name);
	return ls->v[ls->n++] != NULL;
}

int branch_run_clear(struct branch *b)
{
	CLEAN(overlay_putp) struct overlay *o = get_loaded(b, &b->run);
	struct name_list ls = {NULL, 0};
	int rc = 0;

	if (o)
		rc = overlay_readdir(o, OVERLAY_ROOT, 0, collect_name, &ls);
	for (size_t i = 0; i < ls.n; i++) {
		if (rc == 0 && ls.v[i])
			rc = overlay_unlink(o, OVERLAY_ROOT, ls.v[i]);
		if (rc == -ENOENT)
			rc = 0; /* somebody was faster */
		free(ls.v[i]);
	}
	free(ls.v);
	return rc;
}

int branch_log_open(struct branch *b, int flags)
{
	char path[32];
	int fd;

	run_path(b, ".log", path);
	fd = openat(b->reg->store.fd, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int branch_log_trim(struct branch *b, uint64_t max, uint64_t keep)
{
	CLEAN(clean_fd) int fd = branch_log_open(b, O_WRONLY);
	struct stat st;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_blocks * 512 <= max || (uint64_t)st.st_size <= keep)
		return 0;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      st.st_size - (off_t)keep) < 0 &&
	    errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

int branch_wait_durable(struct branch *b)
{
	struct layer *l = layer_step_down(branch_top(b));
	int rc = 0;

	while (l && rc == 0) {
		rc = layer_flush(l);
		l = layer_step_down(l);
	}
	layer_put(l);
	return rc;
}

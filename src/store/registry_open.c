/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_open.c - opening a store: its lock, its records, the lineage of its layers.
 *
 * A damaged record costs what it describes and nothing else: the branch is left
 * out, its file named in the log.  While one is damaged, nobody knows which
 * layers it stands on, so unknown layers are then left alone too.
 */
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/statfs.h>

#define FORMAT_LINE "pgbranchfs store 1\n"
#define RECORD_MAX 4096
#define MAX_FDS 8192

/* Layers met so far, by id, while the lineage is put together. */
struct known {
	UT_hash_handle hh;
	uint32_t id;
	struct layer *layer; /* NULL: damaged; owned reference */
	bool is_top;
};

struct reading {
	struct registry *r;
	struct known *known;
	bool damaged; /* a record could not be read */
};

static struct known *known_find(struct reading *rd, uint32_t id)
{
	struct known *k = NULL;

	HASH_FIND(hh, rd->known, &id, sizeof(id), k);
	return k;
}

static int known_add(struct reading *rd, uint32_t id, struct layer *l, bool is_top)
{
	struct known *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->id = id;
	k->is_top = is_top;
	HASH_ADD(hh, rd->known, id, sizeof(k->id), k);
	if (!k->hh.tbl) {
		free(k);
		return -ENOMEM;
	}
	k->layer = l ? layer_get(l) : NULL;
	return 0;
}

static void reading_fini(struct reading *rd)
{
	struct known *k, *next;

	HASH_ITER(hh, rd->known, k, next)
	{
		HASH_DEL(rd->known, k);
		layer_put(k->layer);
		free(k);
	}
}

static int read_layer_record(struct registry *r, uint32_t id, struct layer_meta *ret)
{
	CLEAN(clean_free) char *text = NULL;
	char path[48];
	size_t len;
	int rc;

	(void)snprintf(path, sizeof(path), "layers/%08x/layer.ini", id);
	rc = fd_read_file(r->store.fd, path, RECORD_MAX, &text, &len);
	if (rc == 0)
		rc = strlen(text) == len ? layer_meta_decode(text, ret) : -EBADMSG;
	if (rc == 0 && ret->id != id)
		rc = -EBADMSG;
	if (rc == -EBADMSG || rc == -ENOENT)
		log_error("%s/%s: damaged or missing record; leaving out what stands "
			  "on it",
			  r->path, path);
	return rc;
}

/* Makes the layer object of one id whose parent is known. */
static int make_sealed(struct reading *rd, const struct layer_meta *m,
		       struct layer *parent)
{
	struct layer *l = layer_new(&rd->r->store, m->id,
				    parent ? layer_get(parent) : NULL, m->fresh);
	int rc;

	if (!l)
		return -ENOMEM;
	atomic_store(&l->sealed, true);
	atomic_store(&l->durable, true); /* registry_open synced the store */
	rc = known_add(rd, m->id, l, false);
	if (rc < 0 && parent)
		atomic_fetch_sub(&parent->users, 1);
	layer_put(l);
	return rc;
}

/*
 * The sealed layer `id` with all below it.  Goes down until it meets a layer it
 * knows, then makes the objects on the way back up; parents are always older.
 */
static int get_sealed(struct reading *rd, uint32_t id, struct layer **ret_layer)
{
	struct layer_meta *way = NULL;
	struct layer *parent = NULL;
	struct known *k = NULL;
	size_t n = 0;
	int rc = 0;

	while (id != 0 && !(k = known_find(rd, id))) {
		struct layer_meta *v = realloc(way, (n + 1) * sizeof(*v));

		rc = v ? 0 : -ENOMEM;
		if (v) {
			way = v;
			rc = read_layer_record(rd->r, id, &way[n]);
		}
		if (rc < 0)
			break;
		id = way[n++].parent;
	}
	if (rc == 0 && k) {
		parent = k->layer;
		if (!parent || k->is_top)
			rc = -EBADMSG; /* damaged, or somebody writes it */
	}
	while (rc == 0 && n > 0) {
		n--;
		rc = make_sealed(rd, &way[n], parent);
		if (rc == 0)
			parent = known_find(rd, way[n].id)->layer;
	}
	free(way);
	if (rc == 0)
		*ret_layer = parent;
	return rc;
}

static int take_record(struct reading *rd, const char *name,
		       const struct branch_meta *m)
{
	struct registry *r = rd->r;
	struct layer *base = NULL, *top;
	struct branch *b;
	int rc = 0;

	if ((b = registry_find_no(r, m->no)) != NULL) {
		branch_put(b);
		return -EBADMSG; /* a copy of another record */
	}
	if (m->base != 0)
		rc = get_sealed(rd, m->base, &base);
	if (rc == 0 && known_find(rd, m->top))
		rc = -EBADMSG; /* two would write it */
	if (rc < 0)
		return rc;
	top = layer_new(&r->store, m->top, base ? layer_get(base) : NULL, m->fresh);
	if (!top)
		return -ENOMEM;
	rc = known_add(rd, m->top, top, true);
	b = rc == 0 ? branch_new(r, name, m, layer_get(top)) : NULL;
	layer_put(top);
	if (!b)
		return -ENOMEM;
	rc = registry_add(r, b);
	if (rc < 0)
		return rc;
	if (m->no >= r->next_no)
		r->next_no = m->no + 1;
	if (m->top >= r->next_layer)
		r->next_layer = m->top + 1;
	return 0;
}

/* "NAME.ini" -> NAME; false: not a record's name. */
static bool record_name(const char *file, char name[static 64])
{
	size_t len = strlen(file);

	if (len < 5 || len - 4 > NAME_LEN_MAX || strcmp(file + len - 4, ".ini") != 0)
		return false;
	memcpy(name, file, len - 4);
	name[len - 4] = '\0';
	return text_check_name(name) == 0;
}

static int read_record(struct reading *rd, const char *file)
{
	CLEAN(clean_free) char *text = NULL;
	char name[64], path[RECORD_PATH_MAX];
	struct branch_meta m;
	size_t len;
	int rc;

	if (!record_name(file, name)) {
		log_warn("%s/branches/%s: not a record, ignoring", rd->r->path, file);
		return 0;
	}
	record_path(name, path);
	rc = fd_read_file(rd->r->store.fd, path, RECORD_MAX, &text, &len);
	if (rc == 0)
		rc = strlen(text) == len ? branch_meta_decode(text, &m) : -EBADMSG;
	if (rc == 0)
		rc = take_record(rd, name, &m);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		rd->damaged = true;
		log_error("%s/%s: damaged record (%s); leaving branch '%s' out",
			  rd->r->path, path, strerror(-rc), name);
	}
	return 0;
}

/* Calls fn(name) for each entry of a directory of the store. */
static int each_entry(struct registry *r, const char *path,
		      int (*fn)(struct reading *rd, const char *name),
		      struct reading *rd)
{
	int fd = openat(r->store.fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *ent;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	int rc = 0;

	if (!d) {
		rc = -errno;
		clean_fd(&fd);
		return rc;
	}
	/* a record that cannot be listed is not one that is gone: the layers of its
	 * branch would be taken for leftovers */
	while (rc == 0) {
		errno = 0;
		ent = FAULT_FAILS("registry.readdir", path) ? NULL : readdir(d);
		if (!ent) {
			rc = -errno;
			break;
		}
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			rc = fn(rd, ent->d_name);
	}
	(void)closedir(d); /* read only */
	return rc;
}

static int on_record_file(struct reading *rd, const char *name)
{
	if (fd_is_temp(name)) { /* a crash before its rename */
		char path[RECORD_PATH_MAX + 256];

		(void)snprintf(path, sizeof(path), "branches/%s", name);
		(void)unlinkat(rd->r->store.fd, path, 0); /* again at the next mount */
		return 0;
	}
	return read_record(rd, name);
}

static int on_layer_dir(struct reading *rd, const char *name)
{
	struct registry *r = rd->r;
	uint64_t id;
	uint32_t *v;

	if (strlen(name) != 8 || text_parse_u64(name, 16, UINT32_MAX, &id) < 0 ||
	    id == 0) {
		log_warn("%s/layers/%s: not a layer, ignoring", r->path, name);
		return 0;
	}
	if (id >= r->next_layer)
		r->next_layer = (uint32_t)id + 1;
	if (rd->damaged || known_find(rd, (uint32_t)id))
		return 0;
	v = realloc(r->orphans, (r->norphans + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->orphans = v;
	r->orphans[r->norphans++] = (uint32_t)id;
	return 0;
}

static int on_run_entry(struct reading *rd, const char *name)
{
	const char *dot = strrchr(name, '.');
	char path[300];

	if (dot && (strcmp(dot, ".log") == 0 || strcmp(dot, ".pid") == 0))
		return 0; /* for people, and for the fence */
	(void)snprintf(path, sizeof(path), "run/%s", name);
	return fd_remove_tree(rd->r->store.fd, path);
}

int registry_read(struct registry *r, struct err *e)
{
	CLEAN(reading_fini) struct reading rd = {.r = r};
	int rc = each_entry(r, "branches", on_record_file, &rd);

	if (rc < 0)
		return err_set(e, rc, "cannot read %s/branches: %s", r->path,
			       strerror(-rc));
	rc = each_entry(r, "layers", on_layer_dir, &rd);
	if (rc < 0)
		return err_set(e, rc, "cannot read %s/layers: %s", r->path,
			       strerror(-rc));
	rc = fd_mkdir(r->store.fd, "run", 0700);
	if (rc == 0)
		rc = each_entry(r, "run", on_run_entry, &rd);
	if (rc < 0)
		return err_set(e, rc, "cannot empty %s/run: %s", r->path,
			       strerror(-rc));
	return 0;
}

static int check_format(struct registry *r, struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	int rc = fd_read_file(r->store.fd, "format", 64, &text, NULL);

	if (rc == -ENOENT) {
		err_set(e, -EINVAL, "%s is not a store, or its making was not finished",
			r->path);
		return err_hint(e, "make one with: pgbranchfs init %s", r->path);
	}
	if (rc < 0)
		return err_set(e, rc, "cannot read %s/format: %s", r->path,
			       strerror(-rc));
	if (strcmp(text, FORMAT_LINE) != 0)
		return err_set(e, -EINVAL,
			       "%s/format: a format that this version does not know",
			       r->path);
	return 0;
}

static int take_lock(struct registry *r, struct err *e)
{
	CLEAN(clean_free) char *holder = NULL;
	char pid[24];
	int n;

	r->lock_fd = openat(r->store.fd, "lock",
			    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->lock_fd < 0)
		return err_set(e, -errno, "cannot open %s/lock: %s", r->path,
			       strerror(errno));
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (fd_read_file(r->store.fd, "lock", 32, &holder, NULL) == 0)
			holder[strcspn(holder, "\n")] = '\0';
		err_set(e, -EBUSY, "store %s is mounted already (process %s)", r->path,
			holder && *holder ? holder : "unknown");
		return err_hint(e, "one daemon serves a store; unmount it there first");
	}
	/* over the old one, which needs no space; the lock holds without it too */
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (fd_pwrite_full(r->lock_fd, pid, (size_t)n, 0) < 0 ||
	    ftruncate(r->lock_fd, n) < 0)
		log_warn("%s/lock: cannot write the process id: %m; going on", r->path);
	return 0;
}

/* Half of what the process may have: servers' sockets and logs need some too. */
static unsigned fd_budget(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur / 2 > MAX_FDS)
		return MAX_FDS;
	return (unsigned)(lim.rlim_cur / 2);
}

/* File systems with one journal for all of their metadata. */
static bool keeps_order(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 &&
	       (st.f_type == EXT4_SUPER_MAGIC || st.f_type == XFS_SUPER_MAGIC);
}

static int open_store(struct registry *r, struct err *e)
{
	int rc = fdcache_new(fd_budget(), &r->store.fds);

	if (rc < 0)
		return err_set(e, rc, "out of memory");
	r->store.fd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->store.fd < 0)
		return err_set(e, -errno, "cannot open store %s: %s", r->path,
			       strerror(errno));
	r->store.keeps_order = keeps_order(r->store.fd);
	rc = check_format(r, e);
	if (rc == 0)
		rc = take_lock(r, e);
	/* what a killed daemon left in the page cache becomes durable before
	 * anybody builds on it */
	if (rc == 0 && syncfs(r->store.fd) < 0)
		rc = err_set(e, -errno, "cannot sync store %s: %s", r->path,
			     strerror(errno));
	return rc < 0 ? rc : registry_read(r, e);
}

int registry_open(const char *path, struct registry **ret_reg, struct err *e)
{
	struct registry *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->store.fd = -1;
	r->lock_fd = -1;
	r->next_no = 1;
	r->next_layer = 1;
	dsync_init(&r->store.layers);
	dsync_init(&r->store.records);
	(void)pthread_mutex_init(&r->change, NULL);
	(void)pthread_rwlock_init(&r->table, NULL);
	r->path = realpath(path, NULL);
	rc = r->path ? open_store(r, e)
		     : err_set(e, -errno, "cannot open store %s: %s", path,
			       strerror(errno));
	if (rc < 0) {
		registry_close(r);
		return rc;
	}
	*ret_reg = r;
	return 0;
}

/* Writes what is only in memory: last activity, and names that followed a rename. */
static void save_rest(struct registry *r, struct branch *b)
{
	struct branch_meta m = b->meta;

	m.last_active = atomic_load(&b->last_active);
	if ((b->unsaved || m.last_active != b->meta.last_active) &&
	    registry_save(r, b->name, &m) < 0)
		log_warn("branch %s: cannot save its record; going on", b->name);
}

struct registry *registry_close(struct registry *r)
{
	struct branch *b, *next;

	if (!r)
		return NULL;
	if (registry_flush(r) < 0)
		log_error(
			"%s: not all changes could be written; those that were fsynced "
			"are safe",
			r->path);
	HASH_ITER(hh_no, r->by_no, b, next)
	{
		HASH_DELETE(hh_no, r->by_no, b);
		HASH_DELETE(hh_name, r->by_name, b);
		save_rest(r, b);
		branch_put(b);
	}
	while (r->ndead > 0)
		layer_put(r->dead[--r->ndead]);
	while (r->nsealed > 0)
		layer_put(r->sealed[--r->nsealed]);
	free(r->sealed);
	free(r->dead);
	free(r->orphans);
	if (r->store.fd >= 0)
		(void)syncfs(r->store.fd); /* what was not fsynced owes nobody */
	fdcache_free(r->store.fds);
	dsync_fini(&r->store.layers);
	dsync_fini(&r->store.records);
	clean_fd(&r->lock_fd);
	clean_fd(&r->store.fd);
	(void)pthread_mutex_destroy(&r->change);
	(void)pthread_rwlock_destroy(&r->table);
	free(r->path);
	free(r);
	return NULL;
}

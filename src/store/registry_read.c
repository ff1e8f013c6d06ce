/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_read.c - the records of a store, and the lineage of its layers.
 *
 * A damaged record costs what it describes and nothing else: the branch is left
 * out, its file named in the log.  While one is damaged, nobody knows which
 * layers it stands on, so none that was there is removed.  That is as true of a branch
 * in the trash, whose record is one like the others but for its file's name.
 *
 * All records are read before the first branch is made: whether one of them can be
 * trusted is seen only beside the others.
 */
#include "store/checkpoint_priv.h"
#include "store/incoming.h"
#include "store/lineage.h"
#include "store/registry_priv.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_MAX 4096

/* A record that could be decoded. */
struct found {
	char file[TRASH_NAME_MAX]; /* its file's name, without the ending... */
	char name[64];             /* ...and the branch's; different in the trash */
	struct branch_meta m;
	const char *wrong; /* what keeps the branch from being served; NULL: nothing */
};

struct found_checkpoint {
	struct checkpoint_meta m;
	bool wrong;
};

struct reading {
	struct registry *r;
	struct lineage lineage;
	struct found *v;
	size_t n;
	struct found_checkpoint *checkpoints;
	size_t ncheckpoints;
	bool damaged; /* a record could not be read */
};

static void reading_fini(struct reading *rd)
{
	lineage_fini(&rd->lineage);
	free(rd->v);
	free(rd->checkpoints);
}

/* "NAME.ini" or "NAME@TIME.ini"; false: not a record's name. */
static bool record_name(const char *entry, struct found *f)
{
	size_t len = strlen(entry);
	time_t t;

	if (len < 5 || len - 4 >= sizeof(f->file) ||
	    strcmp(entry + len - 4, ".ini") != 0)
		return false;
	memcpy(f->file, entry, len - 4);
	f->file[len - 4] = '\0';
	if (text_check_name(f->file) < 0)
		return trash_name_parse(f->file, f->name, &t) == 0;
	memcpy(f->name, f->file, sizeof(f->name)); /* its length was checked */
	return true;
}

static bool is_trash(const struct found *f)
{
	return strcmp(f->file, f->name) != 0;
}

static void leave_out(struct reading *rd, const char *name, const char *why)
{
	char path[RECORD_PATH_MAX];

	record_path(name, path);
	rd->damaged = true;
	damage_note(rd->r, path, name, why);
	log_error("%s/%s: damaged record (%s); leaving branch '%s' out", rd->r->path,
		  path, why, name);
}

/* "NO@SEQ.ini" */
static bool checkpoint_name(const char *entry, char name[static TRASH_NAME_MAX],
			    uint32_t *ret_no, uint32_t *ret_seq)
{
	size_t len = strlen(entry);

	if (len < 5 || len - 4 >= TRASH_NAME_MAX ||
	    strcmp(entry + len - 4, ".ini") != 0)
		return false;
	memcpy(name, entry, len - 4);
	name[len - 4] = '\0';
	return checkpoint_record_parse(name, ret_no, ret_seq);
}

static void leave_checkpoint_out(struct reading *rd, const char *file, const char *what,
				 const char *why)
{
	char path[RECORD_PATH_MAX];

	record_path(file, path);
	rd->damaged = true;
	damage_note(rd->r, path, what, why);
	log_error("%s/%s: damaged record (%s); leaving the checkpoint out", rd->r->path,
		  path, why);
}

/* Its numbers are taken, whatever the record says. */
static int read_checkpoint(struct reading *rd, const char *file, uint32_t no,
			   uint32_t seq)
{
	CLEAN(clean_free) char *text = NULL;
	struct found_checkpoint f = {.wrong = false}, *v;
	char path[RECORD_PATH_MAX];
	size_t len;
	int rc = checkpoint_note_seq(rd->r, no, seq);

	if (no >= rd->r->next_no && no < UINT32_C(1) << BRANCH_NO_BITS)
		rd->r->next_no = no + 1;
	record_path(file, path);
	if (rc == 0)
		rc = fd_read_regular(rd->r->store.fd, path, RECORD_MAX, &text, &len);
	if (rc == 0)
		rc = strlen(text) == len ? checkpoint_meta_decode(text, &f.m)
					 : -EBADMSG;
	if (rc == 0 && (f.m.branch_no != no || f.m.seq != seq))
		rc = -EBADMSG;
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		leave_checkpoint_out(rd, file, "",
				     rc == -EBADMSG ? "not as it was written"
						    : strerror(-rc));
		return 0;
	}
	v = realloc(rd->checkpoints, (rd->ncheckpoints + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	rd->checkpoints = v;
	v[rd->ncheckpoints++] = f;
	return 0;
}

static int read_record(struct reading *rd, const char *file)
{
	CLEAN(clean_free) char *text = NULL;
	struct found f = {.wrong = NULL}, *v;
	char path[RECORD_PATH_MAX];
	uint32_t no, seq;
	size_t len;
	int rc;

	if (checkpoint_name(file, f.file, &no, &seq))
		return read_checkpoint(rd, f.file, no, seq);
	if (!record_name(file, &f)) {
		rd->damaged = true; /* it may be one that lost its name */
		log_warn("%s/branches/%s: not a record, ignoring it; no layer is "
			 "removed while it is there",
			 rd->r->path, file);
		damage_note(rd->r, "branches", "", "a file in it is not a record");
		return 0;
	}
	record_path(f.file, path);
	rc = fd_read_regular(rd->r->store.fd, path, RECORD_MAX, &text, &len);
	if (rc == 0)
		rc = strlen(text) == len ? branch_meta_decode(text, &f.m) : -EBADMSG;
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		leave_out(rd, f.file,
			  rc == -EBADMSG ? "not as it was written" : strerror(-rc));
		return 0;
	}
	v = realloc(rd->v, (rd->n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	rd->v = v;
	rd->v[rd->n++] = f;
	return 0;
}

/*
 * A record that holds another branch's name was moved by somebody else than us, or
 * by a rename that a crash cut short.  Only then no file has that name.
 */
static void check_own_name(struct reading *rd, struct found *f)
{
	char path[RECORD_PATH_MAX];
	struct stat st;

	if (f->m.name[0] == '\0' || strcmp(f->m.name, f->file) == 0)
		return;
	record_path(f->m.name, path);
	if (fstatat(rd->r->store.fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return;
	f->wrong = "it is the record of another branch, which has a file too";
}

static int by_no(const void *pa, const void *pb)
{
	const struct found *a = pa, *b = pb;

	return a->m.no < b->m.no ? -1 : a->m.no > b->m.no;
}

/* What the node ids in its data have. */
static uint32_t data_no(const struct branch_meta *m)
{
	return m->data_no ? m->data_no : m->no;
}

static int by_data_no(const void *pa, const void *pb)
{
	const struct found *a = pa, *b = pb;
	uint32_t x = data_no(&a->m), y = data_no(&b->m);

	return x < y ? -1 : x > y;
}

static int by_top(const void *pa, const void *pb)
{
	const struct found *a = pa, *b = pb;

	return a->m.top < b->m.top ? -1 : a->m.top > b->m.top;
}

/*
 * Of two that claim the same number or the same writable layer, nobody knows which is
 * right, and serving either could spoil the other.  Damaged ones must be gone from the
 * list: a copy does not count against the original.
 */
static void check_twins(struct reading *rd, int (*cmp)(const void *, const void *),
			const char *wrong)
{
	if (rd->n > 1)
		qsort(rd->v, rd->n, sizeof(*rd->v), cmp);
	for (size_t i = 1; i < rd->n; i++)
		if (cmp(&rd->v[i - 1], &rd->v[i]) == 0)
			rd->v[i - 1].wrong = rd->v[i].wrong = wrong;
}

/* Names what is wrong and takes it from the list. */
static void drop_wrong(struct reading *rd)
{
	size_t kept = 0;

	for (size_t i = 0; i < rd->n; i++) {
		if (rd->v[i].wrong)
			leave_out(rd, rd->v[i].file, rd->v[i].wrong);
		else
			rd->v[kept++] = rd->v[i];
	}
	rd->n = kept;
}

/* Makes the branch of a record whose base is known. */
static int take_record(struct reading *rd, const struct found *f)
{
	struct layer *base = lineage_find(&rd->lineage, f->m.base);
	struct registry *r = rd->r;
	struct layer *top;
	struct branch *b;
	int rc;

	top = layer_new(&r->store, f->m.top, base ? layer_get(base) : NULL, f->m.fresh);
	b = top ? branch_new(r, f->name, &f->m, top) : NULL;
	if (!b)
		return -ENOMEM;
	if (is_trash(f)) {
		memcpy(b->trash, f->file, sizeof(b->trash));
		atomic_store(&b->trashed, true);
		atomic_store(&b->discarded, true);
	}
	rc = registry_add(r, b);
	if (rc < 0)
		return rc;
	if (f->m.no >= r->next_no)
		r->next_no = f->m.no + 1;
	if (f->m.data_no >= r->next_no)
		r->next_no = f->m.data_no + 1;
	if (f->m.top >= r->next_layer)
		r->next_layer = f->m.top + 1;
	if (strcmp(f->m.name, f->file) != 0 && registry_save(r, f->file, &f->m) < 0) {
		log_warn("branch %s: cannot write its name into its record; trying "
			 "again later",
			 f->file);
		record_note_misnamed(r, b);
	}
	return 0;
}

static void note_bad_layer(struct reading *rd, const char *branch, int rc)
{
	char path[48];

	(void)snprintf(path, sizeof(path), "layers/%08x/layer.ini",
		       rd->lineage.bad_layer);
	damage_note(rd->r, path, branch,
		    rc == -EBADMSG ? "not as it was written" : strerror(-rc));
}

/* Finds the layers that checkpoints stand on. */
static int place_checkpoints(struct reading *rd)
{
	for (size_t i = 0; i < rd->ncheckpoints; i++) {
		struct found_checkpoint *f = &rd->checkpoints[i];
		char file[TRASH_NAME_MAX], what[2 * sizeof(f->m.name)];
		struct layer *base;
		int rc = lineage_get(&rd->lineage, f->m.base, &base);

		if (rc == -ENOMEM)
			return rc;
		if (rc == 0)
			continue;
		f->wrong = true;
		checkpoint_record_name(f->m.branch_no, f->m.seq, file);
		(void)snprintf(what, sizeof(what), "%s:%s", f->m.branch, f->m.name);
		note_bad_layer(rd, what, rc);
		leave_checkpoint_out(rd, file, what,
				     "what it stands on cannot be read");
	}
	return 0;
}

static int take_checkpoints(struct reading *rd)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < rd->ncheckpoints; i++) {
		const struct found_checkpoint *f = &rd->checkpoints[i];

		if (!f->wrong)
			rc = checkpoint_add(rd->r, &f->m,
					    lineage_find(&rd->lineage, f->m.base));
	}
	return rc;
}

/* A crash may have come between the end of a branch and that of its checkpoints which
 * go with it.  Those of one whose record is damaged stay. */
static void drop_left(struct reading *rd)
{
	struct registry *r = rd->r;

	LOCK_SCOPE(&r->change);
	for (size_t i = 0; i < rd->ncheckpoints; i++) {
		uint32_t no = rd->checkpoints[i].m.branch_no;
		struct branch *b = registry_find_no(r, no);

		if (!b)
			b = registry_find_trashed_no(r, no);
		if (b)
			holdings_recount(r, b);
		else if (!rd->damaged)
			checkpoints_drop_unnamed(r, no);
		branch_put(b);
	}
}

/* All records are read: which of them can be served? */
static int take_records(struct reading *rd)
{
	int rc = 0;

	for (size_t i = 0; i < rd->n; i++)
		check_own_name(rd, &rd->v[i]);
	drop_wrong(rd);
	check_twins(rd, by_no, "another record has its number");
	check_twins(rd, by_data_no, "another record has its data's number");
	check_twins(rd, by_top, "another record has its layer");
	drop_wrong(rd);
	for (size_t i = 0; i < rd->n; i++) {
		struct layer *base;

		rc = lineage_get(&rd->lineage, rd->v[i].m.base, &base);
		if (rc == -ENOMEM)
			return rc;
		if (rc < 0) {
			rd->v[i].wrong = "what it stands on cannot be read";
			note_bad_layer(rd, rd->v[i].file, rc);
		}
		rc = 0;
	}
	rc = place_checkpoints(rd);
	if (rc < 0)
		return rc;
	/* only now all layers are known that somebody stands on */
	for (size_t i = 0; i < rd->n; i++)
		if (!rd->v[i].wrong && lineage_find(&rd->lineage, rd->v[i].m.top))
			rd->v[i].wrong = "it would write a layer that others stand on";
	drop_wrong(rd);
	for (size_t i = 0; rc == 0 && i < rd->n; i++)
		rc = take_record(rd, &rd->v[i]);
	return rc < 0 ? rc : take_checkpoints(rd);
}

/* Calls fn(name) for each entry of a directory of the store. */
static int each_entry(struct registry *r, const char *path,
		      int (*fn)(struct reading *rd, const char *name),
		      struct reading *rd)
{
	int fd = openat(r->store.fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *ent = NULL;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	int rc = 0;

	if (!d) {
		rc = -errno;
		clean_fd(&fd);
		return rc;
	}
	while (rc == 0) {
		errno = 0;
		ent = FAULT_FAILS("registry.readdir", path) ? NULL : readdir(d);
		if (!ent) {
			rc = -errno; /* a list that broke off is not the whole */
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

/* Sorted by it in the end. */
static bool is_top(const struct reading *rd, uint32_t id)
{
	const struct found key = {.m = {.top = id}};

	return rd->n > 0 && bsearch(&key, rd->v, rd->n, sizeof(*rd->v), by_top) != NULL;
}

static int on_layer_dir(struct reading *rd, const char *name)
{
	struct registry *r = rd->r;
	uint64_t id;
	uint32_t *v;

	if (strlen(name) != 8 || text_parse_u64(name, 16, LAYER_ID_MAX, &id) < 0 ||
	    id == 0) {
		log_warn("%s/layers/%s: not a layer, ignoring", r->path, name);
		return 0;
	}
	if (id >= r->next_layer)
		r->next_layer = (uint32_t)id + 1;
	if (rd->damaged || lineage_find(&rd->lineage, (uint32_t)id) ||
	    is_top(rd, (uint32_t)id))
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

/*
 * What a damaged record names is not known.  So nothing that was there is removed,
 * and no number that it might hold is given out: it must fit in again when it is
 * put back.  The steps are far larger than what one mount uses up, and small enough for
 * tens of thousands of mounts like that.
 */
static void be_careful(struct registry *r)
{
	const uint32_t layers = UINT32_C(1) << 16, branches = UINT32_C(1) << 10;

	if (r->next_layer < UINT32_MAX - layers)
		r->next_layer += layers;
	if (r->next_no < (UINT32_C(1) << 26) - branches)
		r->next_no += branches;
	r->keep_below = r->next_layer;
	log_warn(
		"%s: records are damaged; no layer of before this mount is removed, so "
		"no space is freed until they are put back or taken away",
		r->path);
}

static bool has_main(const struct reading *rd)
{
	char path[RECORD_PATH_MAX];
	struct stat st;

	record_path(MAIN_BRANCH, path);
	return fstatat(rd->r->store.fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int read_branches(struct reading *rd, struct err *e)
{
	struct registry *r = rd->r;
	int rc = each_entry(r, "branches", on_record_file, rd);

	if (rc == 0)
		rc = take_records(rd);
	if (rc < 0)
		return err_set(e, rc, "cannot read %s/branches: %s", r->path,
			       strerror(-rc));
	if (!has_main(rd)) { /* nobody can discard or rename it */
		rd->damaged = true;
		log_error("%s/branches/" MAIN_BRANCH ".ini: missing", r->path);
		damage_note(r, "branches/" MAIN_BRANCH ".ini", MAIN_BRANCH, "missing");
	}
	if (r->by_no)
		return 0;
	err_set(e, -EIO, "no branch can be served: %s/branches/" MAIN_BRANCH ".ini %s",
		r->path, has_main(rd) ? "or what it names is damaged" : "is missing");
	return err_hint(e, "put it back from a copy of the store; nothing was changed");
}

/* What a receive that was cut short has left. */
static int on_store_entry(struct reading *rd, const char *name)
{
	return incoming_is_left(rd->r->store.fd, name)
		       ? fd_remove_tree(rd->r->store.fd, name)
		       : 0;
}

int registry_read(struct registry *r, struct err *e)
{
	CLEAN(reading_fini) struct reading rd = {.r = r, .lineage = {.r = r}};
	int rc = read_branches(&rd, e);

	if (rc < 0)
		return rc;
	rc = each_entry(r, "layers", on_layer_dir, &rd);
	if (rc < 0)
		return err_set(e, rc, "cannot read %s/layers: %s", r->path,
			       strerror(-rc));
	if (rd.damaged)
		be_careful(r);
	drop_left(&rd);
	rc = fd_mkdir(r->store.fd, "run", 0700);
	if (rc == 0)
		rc = each_entry(r, "run", on_run_entry, &rd);
	if (rc == 0)
		rc = each_entry(r, ".", on_store_entry, &rd);
	if (rc < 0)
		return err_set(e, rc, "cannot empty %s/run: %s", r->path,
			       strerror(-rc));
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a layer or a temporary file is good for is judged with registry->change held, so
 * that nobody makes or renames one meanwhile.  A layer's directory comes up without it,
 * at the first write, but its number is known by then.
 *
 * Removing the files of a layer takes long.  A number that was given out once is not
 * given out again, so that is done without the lock; only a directory whose number is
 * still to come, which is none of ours, has to be gone before it does.
 */
#include "store/check.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "store/checkpoint_priv.h"
#include "store/incoming.h"
#include "store/registry_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_BYTES_MAX 4096

/* A layer that some branch stands on, or that is being removed already. */
struct known {
	UT_hash_handle hh;
	uint32_t id;
	bool durable; /* sealed, and nothing of it is written any more */
};

struct known_set {
	struct known *byid;
	bool failed;
};

static struct known *known_find(const struct known_set *s, uint32_t id)
{
	struct known *k = NULL;

	HASH_FIND(hh, s->byid, &id, sizeof(id), k);
	return k;
}

static void known_add_id(struct known_set *s, uint32_t id, bool durable)
{
	struct known *k = calloc(1, sizeof(*k));

	if (k) {
		k->id = id;
		k->durable = durable;
		HASH_ADD(hh, s->byid, id, sizeof(k->id), k);
	}
	if (!k || !k->hh.tbl) {
		free(k);
		s->failed = true;
	}
}

static void known_add(struct known_set *s, const struct layer *l, bool durable)
{
	known_add_id(s, l->id, durable);
}

static void known_fini(struct known_set *s)
{
	struct known *k, *next;

	HASH_ITER(hh, s->byid, k, next)
	{
		HASH_DEL(s->byid, k);
		free(k);
	}
}

static void add_chain_locked(struct known_set *s, struct layer *l)
{
	for (; l && !known_find(s, l->id); l = l->parent)
		known_add(s, l, atomic_load(&l->durable));
}

static void add_chains_locked(struct known_set *s, const struct branch *by_no)
{
	for (const struct branch *b = by_no; b; b = b->hh_no.next) {
		known_add(s, b->top, false);
		add_chain_locked(s, b->top->parent);
	}
}

static int known_all_locked(struct registry *r, struct known_set *s)
{
	add_chains_locked(s, r->by_no);
	add_chains_locked(s, r->trash_by_no);
	for (struct checkpoint_set *c = r->checkpoints; c; c = c->hh.next)
		for (size_t i = 0; i < c->n; i++)
			add_chain_locked(s, c->v[i]->layer);
	for (size_t i = 0; i < r->ndead; i++)
		if (!known_find(s, r->dead[i]->id))
			known_add(s, r->dead[i], false);
	if (r->building && !known_find(s, r->building))
		known_add_id(s, r->building, false);
	return s->failed ? -ENOMEM : 0;
}

struct scan {
	struct registry *r;
	struct known_set known;
	struct leftover *v;
	size_t n;
	const char *dir; /* the one that is being listed */
};

static void scan_fini(struct scan *sc)
{
	known_fini(&sc->known);
	free(sc->v);
}

/* Calls fn for each entry of a directory of the store; one that is missing has none. */
static int each_name(struct scan *sc, const char *path,
		     int (*fn)(struct scan *sc, const char *name))
{
	int fd = openat(sc->r->store.fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *ent;
	int rc = 0;
	DIR *d;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		rc = -errno;
		(void)close(fd);
		return rc;
	}
	sc->dir = path;
	while (rc == 0) {
		errno = 0;
		ent = readdir(d);
		if (!ent) {
			rc = -errno;
			break;
		}
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			rc = fn(sc, ent->d_name);
	}
	(void)closedir(d);
	return rc;
}

static int add_leftover(struct scan *sc, enum leftover_kind kind, const char *name,
			bool kept)
{
	struct leftover *v = realloc(sc->v, (sc->n + 1) * sizeof(*v));
	struct leftover l = {.kind = kind, .kept = kept};
	int n = snprintf(l.path, sizeof(l.path), "%s/%s", sc->dir, name);

	if (!v)
		return -ENOMEM;
	sc->v = v;
	if (n > 0 && (size_t)n < sizeof(l.path)) /* else it is not a name of ours */
		sc->v[sc->n++] = l;
	return 0;
}

static bool parse_id(const char *name, uint32_t *ret_id)
{
	uint64_t id;

	if (strlen(name) != 8 || strspn(name, "0123456789abcdef") != 8 ||
	    text_parse_u64(name, 16, UINT32_MAX, &id) < 0 || id == 0)
		return false;
	*ret_id = (uint32_t)id;
	return true;
}

static int on_layer(struct scan *sc, const char *name)
{
	uint32_t id;

	if (!parse_id(name, &id) || known_find(&sc->known, id))
		return 0;
	return add_leftover(sc, LEFTOVER_LAYER, name, id < sc->r->keep_below);
}

static int on_temp(struct scan *sc, const char *name)
{
	if (incoming_is_left(sc->r->store.fd, name))
		return add_leftover(sc, LEFTOVER_TEMP, name, false);
	return fd_is_temp(name) ? add_leftover(sc, LEFTOVER_TEMP, name, false) : 0;
}

/* In a layer's own directory there are those of names and attributes, too. */
static int on_layer_temp(struct scan *sc, const char *name)
{
	if (strncmp(name, "t.", 2) == 0)
		return add_leftover(sc, LEFTOVER_TEMP, name, false);
	return on_temp(sc, name);
}

static int on_log(struct scan *sc, const char *name)
{
	struct branch *b = NULL;
	uint64_t no;
	char *end;

	no = strtoull(name, &end, 10);
	if (end == name || strcmp(end, ".log") != 0 || no == 0 || no >= sc->r->next_no)
		return 0;
	b = registry_find_no(sc->r, (uint32_t)no);
	if (!b)
		b = registry_find_trashed_no(sc->r, (uint32_t)no);
	if (b) {
		branch_put(b);
		return 0;
	}
	return add_leftover(sc, LEFTOVER_LOG, name, false);
}

static int scan_locked(struct scan *sc)
{
	int rc = known_all_locked(sc->r, &sc->known);

	if (rc == 0)
		rc = each_name(sc, ".", on_temp);
	if (rc == 0)
		rc = each_name(sc, "branches", on_temp);
	if (rc == 0)
		rc = each_name(sc, "layers", on_layer);
	if (rc == 0)
		rc = each_name(sc, "run", on_log);
	return rc;
}

/* Nobody writes to layers that are durable, so this needs no lock. */
static int scan_layers(struct scan *sc)
{
	int rc = 0;

	for (struct known *k = sc->known.byid; k && rc == 0; k = k->hh.next) {
		char path[32];

		if (!k->durable)
			continue;
		(void)snprintf(path, sizeof(path), "layers/%08x", k->id);
		rc = each_name(sc, path, on_layer_temp);
		(void)snprintf(path, sizeof(path), "layers/%08x/map", k->id);
		if (rc == 0)
			rc = each_name(sc, path, on_temp);
		(void)snprintf(path, sizeof(path), "layers/%08x/cold", k->id);
		if (rc == 0)
			rc = each_name(sc, path, on_temp);
	}
	return rc;
}

static int scan_all(struct scan *sc)
{
	int rc;

	{
		LOCK_SCOPE(&sc->r->change);
		rc = scan_locked(sc);
	}
	return rc < 0 ? rc : scan_layers(sc);
}

static uint64_t bytes_of(struct registry *r, const struct leftover *l)
{
	uint64_t blocks = 0;
	struct layer *layer;
	struct stat st;
	uint32_t id;

	if (l->kind != LEFTOVER_LAYER)
		return fstatat(r->store.fd, l->path, &st, AT_SYMLINK_NOFOLLOW) == 0
			       ? (uint64_t)st.st_blocks * 512
			       : 0;
	if (!parse_id(strchr(l->path, '/') + 1, &id))
		return 0;
	layer = layer_new(&r->store, id, NULL, false);
	if (layer && layer_blocks(layer, &blocks) < 0)
		blocks = 0; /* it cannot be read: nobody knows */
	layer_put(layer);
	return blocks * 512;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(((const struct leftover *)a)->path,
		      ((const struct leftover *)b)->path);
}

int check_leftovers(struct registry *r, void (*fn)(void *ctx, const struct leftover *l),
		    void *ctx)
{
	CLEAN(scan_fini) struct scan sc = {.r = r};
	int rc = scan_all(&sc);

	if (rc < 0)
		return rc;
	if (sc.n > 1)
		qsort(sc.v, sc.n, sizeof(*sc.v), compare_paths);
	for (size_t i = 0; i < sc.n; i++) {
		sc.v[i].bytes = bytes_of(r, &sc.v[i]);
		fn(ctx, &sc.v[i]);
	}
	return 0;
}

/* Is it still one?  Then it is removed here, unless that can be done without the lock.
 */
static int remove_locked(struct scan *sc, const struct leftover *l, bool *ret_later)
{
	struct registry *r = sc->r;
	uint32_t id;
	int rc = 0;

	if (l->kind == LEFTOVER_LAYER) {
		rc = known_all_locked(r, &sc->known);
		if (rc < 0)
			return rc;
		if (!parse_id(strchr(l->path, '/') + 1, &id) ||
		    known_find(&sc->known, id) || id < r->keep_below)
			return -EBUSY;
		*ret_later = id < r->next_layer;
		return *ret_later ? 0 : fd_remove_tree(r->store.fd, l->path);
	}
	if (incoming_is_dir(strrchr(l->path, '/') + 1)) {
		*ret_later = incoming_is_left(r->store.fd, strrchr(l->path, '/') + 1);
		return *ret_later ? 0 : -EBUSY;
	}
	return unlinkat(r->store.fd, l->path, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int check_remove(struct registry *r, const struct leftover *l)
{
	CLEAN(scan_fini) struct scan sc = {.r = r};
	bool later = false;
	int rc;

	{
		LOCK_SCOPE(&r->change);
		rc = remove_locked(&sc, l, &later);
	}
	return rc == 0 && later ? fd_remove_tree(r->store.fd, l->path) : rc;
}

/* --- damage --- */

void damage_note(struct registry *r, const char *path, const char *branch,
		 const char *why)
{
	struct damage *v = realloc(r->damage, (r->ndamage + 1) * sizeof(*v));
	struct damage d = {strdup(path), strdup(branch), strdup(why)};

	if (v)
		r->damage = v;
	if (!v || !d.path || !d.branch || !d.why) {
		free(d.path); /* the log has it */
		free(d.branch);
		free(d.why);
		return;
	}
	v[r->ndamage++] = d;
}

void damage_free(struct registry *r)
{
	for (size_t i = 0; i < r->ndamage; i++) {
		free(r->damage[i].path);
		free(r->damage[i].branch);
		free(r->damage[i].why);
	}
	free(r->damage);
}

static bool stands_on(const struct layer *l, uint32_t id)
{
	while (l && l->id != id)
		l = l->parent;
	return l != NULL;
}

/* The names of the branches that stand on a layer, with blanks between. */
static void add_names(struct str *out, const struct branch *by_no, uint32_t id)
{
	for (const struct branch *b = by_no; b; b = b->hh_no.next)
		if (stands_on(b->top->parent, id))
			str_printf(out, "%s%s", out->len ? " " : "",
				   branch_record_name(b));
}

static void add_checkpoints(struct str *out, const struct registry *r, uint32_t id)
{
	for (struct checkpoint_set *s = r->checkpoints; s; s = s->hh.next)
		for (size_t i = 0; i < s->n; i++)
			if (stands_on(s->v[i]->layer, id))
				str_printf(out, "%s%s:%s", out->len ? " " : "",
					   s->v[i]->m.branch, s->v[i]->m.name);
}

/* Does a layer that somebody stands on still have its record? */
static int check_layer(struct registry *r, uint32_t id,
		       void (*fn)(void *ctx, const char *path, const char *branches,
				  const char *why),
		       void *ctx)
{
	CLEAN(str_fini) struct str names = STR_INIT;
	CLEAN(clean_free) char *text = NULL;
	struct layer_meta m;
	char path[48];
	size_t len;
	int rc;

	(void)snprintf(path, sizeof(path), "layers/%08x/layer.ini", id);
	rc = fd_read_regular(r->store.fd, path, RECORD_BYTES_MAX, &text, &len);
	if (rc == 0)
		rc = strlen(text) == len ? layer_meta_decode(text, &m) : -EBADMSG;
	if (rc == 0 && m.id != id)
		rc = -EBADMSG;
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	{
		LOCK_SCOPE(&r->change);
		add_names(&names, r->by_no, id);
		add_names(&names, r->trash_by_no, id);
		add_checkpoints(&names, r, id);
	}
	if (names.len) /* else nobody does, any more */
		fn(ctx, path, names.s,
		   rc == -EBADMSG ? "not as it was written" : strerror(-rc));
	return 0;
}

int check_damage(struct registry *r,
		 void (*fn)(void *ctx, const char *path, const char *branches,
			    const char *why),
		 void *ctx)
{
	CLEAN(scan_fini) struct scan sc = {.r = r};
	int rc;

	{
		LOCK_SCOPE(&r->change);
		for (size_t i = 0; i < r->ndamage; i++)
			fn(ctx, r->damage[i].path, r->damage[i].branch,
			   r->damage[i].why);
		rc = known_all_locked(r, &sc.known);
	}
	for (struct known *k = sc.known.byid; k && rc == 0; k = k->hh.next)
		if (k->durable)
			rc = check_layer(r, k->id, fn, ctx);
	return rc;
}

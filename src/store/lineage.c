/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A layer is found from what stands on it, downwards.  The objects are made on the way
 * back up.  Merged layers are younger than what stands on them, so numbers do not tell
 * whether records lead round in a circle: that is looked for.
 */
#include "store/lineage.h"

#include "base/fd.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define RECORD_MAX 4096

struct lineage_layer {
	UT_hash_handle hh;
	uint32_t id;
	struct layer *layer; /* owned reference */
};

struct layer *lineage_find(const struct lineage *ln, uint32_t id)
{
	struct lineage_layer *k = NULL;

	HASH_FIND(hh, ln->known, &id, sizeof(id), k);
	return k ? k->layer : NULL;
}

static int add(struct lineage *ln, struct layer *l)
{
	struct lineage_layer *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->id = l->id;
	HASH_ADD(hh, ln->known, id, sizeof(k->id), k);
	if (!k->hh.tbl) {
		free(k);
		return -ENOMEM;
	}
	k->layer = layer_get(l);
	return 0;
}

void lineage_fini(struct lineage *ln)
{
	struct lineage_layer *k, *next;

	HASH_ITER(hh, ln->known, k, next)
	{
		HASH_DEL(ln->known, k);
		layer_put(k->layer);
		free(k);
	}
}

static int read_record(struct registry *r, uint32_t id, struct layer_meta *ret)
{
	CLEAN(clean_free) char *text = NULL;
	char path[48];
	size_t len;
	int rc;

	(void)snprintf(path, sizeof(path), "layers/%08x/layer.ini", id);
	rc = fd_read_regular(r->store.fd, path, RECORD_MAX, &text, &len);
	if (rc == 0)
		rc = strlen(text) == len ? layer_meta_decode(text, ret) : -EBADMSG;
	if (rc == 0 && ret->id != id)
		rc = -EBADMSG;
	if (rc < 0 && rc != -ENOMEM)
		log_error("%s/%s: damaged or missing record (%s); leaving out what "
			  "stands on it",
			  r->path, path, strerror(-rc));
	return rc;
}

/*
 * Do the layers on the way down go round in a circle?  The last one is compared with
 * the one whose place is the largest power of two before it.
 */
static bool is_circle(const struct layer_meta *way, size_t n)
{
	size_t mark = 1;

	while (mark * 2 < n)
		mark *= 2;
	return n > 1 && way[n - 1].id == way[mark - 1].id;
}

/* Makes the layer object of one id whose parent is known. */
static int make_sealed(struct lineage *ln, const struct layer_meta *m,
		       struct layer *parent)
{
	struct layer *l = layer_new(&ln->r->store, m->id,
				    parent ? layer_get(parent) : NULL, m->fresh);
	int rc;

	if (!l)
		return -ENOMEM;
	atomic_store(&l->sealed, true);
	atomic_store(&l->durable, true); /* registry_open synced the store */
	if (m->max_fid > 0) {
		l->merged = true;
		l->max_fid = (uint64_t)m->max_fid;
	}
	rc = add(ln, l);
	if (rc < 0 && parent)
		atomic_fetch_sub(&parent->users, 1);
	layer_put(l);
	return rc;
}

int lineage_get(struct lineage *ln, uint32_t id, struct layer **ret_layer)
{
	struct layer_meta *way = NULL;
	struct layer *parent = NULL;
	size_t n = 0;
	int rc = 0;

	while (id != 0 && !(parent = lineage_find(ln, id))) {
		struct layer_meta *v = realloc(way, (n + 1) * sizeof(*v));

		rc = v ? 0 : -ENOMEM;
		if (v) {
			way = v;
			rc = read_record(ln->r, id, &way[n]);
		}
		if (rc == 0 && is_circle(way, n + 1))
			rc = -EBADMSG;
		if (rc < 0)
			break;
		id = way[n++].parent;
	}
	if (rc < 0)
		ln->bad_layer = id;
	while (rc == 0 && n > 0) {
		n--;
		rc = make_sealed(ln, &way[n], parent);
		if (rc == 0)
			parent = lineage_find(ln, way[n].id);
	}
	free(way);
	if (rc == 0)
		*ret_layer = parent;
	return rc;
}

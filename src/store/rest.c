/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rest.c - takes branches out of memory while nobody uses them.
 *
 * A tree is at rest while nobody but its branch has a reference on it: no request works
 * on it, no file in it is open, no server or listener stands in its run directory. When
 * that has lasted for a while, what it holds is made durable, and if nobody came
 * meanwhile it goes: the index, block maps, descriptors.  The next one who asks for it
 * has it loaded again, as after a mount.
 *
 *     in use --> at rest --(rest_ms)--> forget, settle --> at rest still? --> gone
 *        ^----------------- somebody takes a reference -------'
 *
 * New references are handed out under the branch's lock only: what is found there to be
 * nobody's cannot become somebody's, and what was not handed out since it was settled
 * still is.  What an fsync refused must not be forgotten, so a tree that cannot be made
 * durable stays.
 */
#include "store/checkpoint.h"
#include "store/registry_priv.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "store/overlay_priv.h"

#include <string.h>

/* How many references it has that are not the branch's, and not ours. */
static unsigned others_locked(const struct overlay *o, unsigned ours)
{
	return atomic_load(&o->refs) - 1 - ours;
}

static bool is_rested_locked(struct overlay *o, int64_t now_ms, int64_t rest_ms)
{
	if (o->touched || others_locked(o, 0) > 0) {
		o->touched = false;
		o->since_ms = now_ms;
	}
	return others_locked(o, 0) == 0 && now_ms - o->since_ms >= rest_ms;
}

/* A reference on what may go, or NULL.  If it does not go, it has its time anew. */
static struct overlay *take_rested(struct branch *b, struct overlay *const *o,
				   int64_t now_ms, int64_t rest_ms)
{
	LOCK_SCOPE(&b->lock);
	if (!*o || !is_rested_locked(*o, now_ms, rest_ms))
		return NULL;
	(*o)->since_ms = now_ms;
	return overlay_get(*o);
}

static void forget(struct registry *r, struct branch *b, struct overlay *o, bool run)
{
	void (*fn)(void *ctx, struct branch *b, struct overlay *o, bool run);
	void *ctx;

	{
		READ_SCOPE(&r->table);
		fn = r->forget;
		ctx = r->forget_ctx;
	}
	if (fn)
		fn(ctx, b, o, run);
}

void registry_forget_tree(struct registry *r, struct branch *b, struct overlay *old)
{
	if (old)
		forget(r, b, old, false);
	overlay_put(old);
}

/* True if it went. */
static bool unload_data(struct branch *b, int64_t now_ms, int64_t rest_ms, int *rc)
{
	CLEAN(overlay_putp) struct overlay *own = NULL;
	CLEAN(overlay_putp)
	struct overlay *o = take_rested(b, &b->data, now_ms, rest_ms);

	if (!o)
		return false;
	forget(b->reg, b, o, false);
	*rc = overlay_settle(o);
	if (*rc < 0)
		return false;
	LOCK_SCOPE(&b->lock);
	if (o->touched || others_locked(o, 1) > 0)
		return false;
	own = steal(b->data);
	return true;
}

/*
 * A run directory has nothing that the next start would not write anew.  The numbers
 * that were given out in it are not given out again: the kernel may know them still.
 */
static bool unload_run(struct branch *b, int64_t now_ms, int64_t rest_ms, int *rc)
{
	CLEAN(overlay_putp) struct overlay *own = NULL;
	CLEAN(overlay_putp)
	struct overlay *o = take_rested(b, &b->run, now_ms, rest_ms);

	if (!o)
		return false;
	forget(b->reg, b, o, true);
	LOCK_SCOPE(&b->lock);
	if (o->touched || others_locked(o, 1) > 0)
		return false;
	b->run_fid = atomic_load(&o->next_fid) - 1;
	*rc = fd_remove_tree(b->reg->store.fd, o->top->dir);
	own = steal(b->run);
	return true;
}

/* What fails with one keeps no other back. */
static int unload_listed(struct registry *r,
			 int (*fn)(struct registry *r, struct branch ***ret_list),
			 int64_t rest_ms, unsigned *count)
{
	int64_t now_ms = loop_now_ms();
	struct branch **list = NULL;
	int rc = fn(r, &list);

	for (struct branch **b = list; b && *b; b++) {
		int data_rc = 0, run_rc = 0;

		*count += unload_data(*b, now_ms, rest_ms, &data_rc);
		*count += unload_run(*b, now_ms, rest_ms, &run_rc);
		rc = rc < 0 ? rc : data_rc < 0 ? data_rc : run_rc;
	}
	branch_list_free(list);
	return rc;
}

int registry_unload(struct registry *r, int64_t rest_ms, unsigned *ret_count)
{
	int living, trash;

	*ret_count = 0;
	living = unload_listed(r, registry_list, rest_ms, ret_count);
	trash = unload_listed(r, registry_list_trash, rest_ms, ret_count);
	return living < 0 ? living : trash;
}

void registry_on_unload(struct registry *r,
			void (*fn)(void *ctx, struct branch *b, struct overlay *o,
				   bool run),
			void *ctx)
{
	WRITE_SCOPE(&r->table);
	r->forget = fn;
	r->forget_ctx = ctx;
}

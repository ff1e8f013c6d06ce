/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fi->fh has the tag of the daemon in its high half.  The low half is 0 for a stored
 * file, as any open of a node is alike, and a serial number for a virtual one, as it
 * stands for what was rendered at open.
 *
 * The kernel sends RELEASE late, and the opens of a node that are counted here may be
 * fewer than there are (those of another daemon are not known); node numbers are never
 * given out twice, and the tag says whose open it is that ends.
 *
 * A handle goes with its last open.  One that was made for an open of another daemon
 * goes when such an open ends, and is made again if there was one more.
 */
#include "fs/handle.h"

#include "base/fault.h"
#include "store/cowfile.h"

#include <fcntl.h>
#include <sys/random.h>
#include <time.h>

#define ROWS_LOG2 12
#define ROWS (1u << ROWS_LOG2)

static struct row {
	pthread_mutex_t lock;
	struct handle *first; /* lock: lock */
} rows[ROWS] = {[0 ... ROWS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static atomic_uint open_count;
static atomic_uint adopted_count; /* mostly there is none */
static atomic_uint next_serial;

static struct {
	pthread_once_t once;
	uint32_t value;
} tag = {PTHREAD_ONCE_INIT, 0};

static void make_tag(void)
{
	/* all that matters: another one than the daemon's before */
	if (getrandom(&tag.value, sizeof(tag.value), GRND_NONBLOCK) < 0)
		tag.value = (uint32_t)time(NULL);
}

static uint64_t my_tag(void)
{
	(void)pthread_once(&tag.once, make_tag); /* cannot fail */
	return (uint64_t)tag.value << 32;
}

static bool is_mine(uint64_t fh)
{
	return fh >> 32 == my_tag() >> 32;
}

/* Which handle of the node goes with fh. */
static uint64_t content_of(uint64_t fh)
{
	return (uint32_t)fh ? fh : 0;
}

static uint64_t new_fh(const struct node *n)
{
	uint32_t serial;

	if (node_is_stored(n))
		return my_tag();
	do
		serial = atomic_fetch_add(&next_serial, 1);
	while (serial == 0);
	return my_tag() | serial;
}

static struct row *row_of(fuse_ino_t ino)
{
	return &rows[ino * UINT64_C(0x9e3779b97f4a7c15) >> (64 - ROWS_LOG2)];
}

static struct handle *find_locked(const struct row *r, fuse_ino_t ino, uint64_t content)
{
	struct handle *h = r->first;

	while (h && (h->ino != ino || h->content != content))
		h = h->next;
	return h;
}

static struct handle *find(fuse_ino_t ino, uint64_t content)
{
	struct row *r = row_of(ino);
	struct handle *h;

	LOCK_SCOPE(&r->lock);
	h = find_locked(r, ino, content);
	if (h)
		h->users++;
	return h;
}

static void handle_free(struct handle *h)
{
	if (h->f)
		overlay_close(h->n.o, h->f);
	ctl_close(&h->ctl);
	node_put(&h->n);
	free(h);
}

/* Takes it out of its row if nobody needs it any more: then it is the caller's. */
static bool drop_locked(struct row *r, struct handle *h)
{
	struct handle **p = &r->first;

	if (h->opens || h->users || h->adopted)
		return false;
	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	return true;
}

struct handle *handle_put(struct handle *h)
{
	struct row *r;
	bool last;

	if (!h)
		return NULL;
	r = row_of(h->ino);
	{
		LOCK_SCOPE(&r->lock);
		h->users--;
		last = drop_locked(r, h);
	}
	if (last)
		handle_free(h);
	return NULL;
}

/* Puts fresh into its row, unless another thread was faster: then that one's. */
static struct handle *insert(struct handle *fresh)
{
	struct row *r = row_of(fresh->ino);
	struct handle *h;

	{
		LOCK_SCOPE(&r->lock);
		h = find_locked(r, fresh->ino, fresh->content);
		if (!h) {
			fresh->next = r->first;
			r->first = fresh;
			h = fresh;
		}
		h->users++;
	}
	if (h != fresh)
		handle_free(fresh);
	return h;
}

/* The handle, in use; made if there is none.  Takes n's references over. */
static int find_or_make(fuse_req_t req, fuse_ino_t ino, struct node *n, int flags,
			uint64_t content, struct handle **ret_h)
{
	struct handle *h = find(ino, content);
	int rc;

	if (h) {
		*ret_h = h;
		return 0;
	}
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->ino = ino;
	h->content = content;
	h->ctl.log_fd = -1;
	if (node_is_stored(n))
		rc = overlay_open(n->o, n->fid, &h->f);
	else
		rc = ctl_open(req, n, flags, &h->ctl);
	if (rc < 0) {
		free(h);
		return rc;
	}
	h->n = node_take(n);
	*ret_h = insert(h);
	return 0;
}

int handle_open(fuse_req_t req, fuse_ino_t ino, struct node *n,
		struct fuse_file_info *fi, struct handle **ret_h)
{
	CLEAN(handle_clean) struct handle *h = NULL;
	struct cowfile *again;
	uint64_t fh = new_fh(n);
	int rc = find_or_make(req, ino, n, fi->flags, content_of(fh), &h);

	/* of the store too each open has one of its own: a close means something there
	 */
	if (rc == 0 && h->f)
		rc = overlay_open(h->n.o, h->n.fid, &again);
	if (rc < 0)
		return rc;
	{
		LOCK_SCOPE(&row_of(ino)->lock);
		h->opens++;
	}
	atomic_fetch_add(&open_count, 1);
	fi->fh = fh;
	*ret_h = steal(h);
	return 0;
}

/* For tests: what a daemon does not have that took the mount over just now. */
static void lose(fuse_ino_t ino, uint64_t content)
{
	struct handle *h = find(ino, content);
	unsigned opens = 0;

	if (!h)
		return;
	{
		LOCK_SCOPE(&row_of(ino)->lock);
		if (h->users == 1) {
			opens = h->opens;
			h->opens = 0;
			if (h->adopted)
				atomic_fetch_sub(&adopted_count, 1);
			h->adopted = false;
		}
	}
	atomic_fetch_sub(&open_count, opens);
	while (opens-- > 0 && h->f)
		overlay_close(h->n.o, h->f);
	(void)handle_put(h);
}

/* One that is there stays the handle of the opens that are known. */
static void adopt(struct handle *h)
{
	LOCK_SCOPE(&row_of(h->ino)->lock);
	if (h->opens || h->adopted)
		return;
	h->adopted = true;
	atomic_fetch_add(&adopted_count, 1);
}

int handle_get(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
	       struct handle **ret_h)
{
	CLEAN(node_put) struct node n = NODE_INIT;
	uint64_t content = content_of(fi->fh);
	struct handle *h;
	int rc;

	if (FAULT_FAILS("handle.known", NULL))
		lose(ino, content);
	h = find(ino, content);
	if (!h) {
		rc = node_get(fs_of(req), ino, &n);
		if (rc == 0)
			rc = find_or_make(req, ino, &n, O_RDONLY, content, &h);
		if (rc < 0)
			return rc;
		adopt(h);
	}
	if (h->f && overlay_is_gone(h->n.o)) {
		(void)handle_put(h);
		return -ESTALE;
	}
	*ret_h = h;
	return 0;
}

void handle_release(fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct handle *h = find(ino, content_of(fi->fh));
	bool counted = false;

	if (!h)
		return;
	{
		LOCK_SCOPE(&row_of(ino)->lock);
		if (h->opens && is_mine(fi->fh)) {
			h->opens--;
			counted = true;
		} else if (!h->opens && h->adopted) {
			h->adopted = false;
			atomic_fetch_sub(&adopted_count, 1);
		}
	}
	if (counted) {
		atomic_fetch_sub(&open_count, 1);
		if (h->f)
			overlay_close(h->n.o, h->f);
	}
	(void)handle_put(h);
}

/* An adopted handle of the node, in use and not adopted any more; NULL: none. */
static struct handle *take_adopted(fuse_ino_t ino)
{
	struct row *r = row_of(ino);
	struct handle *h;

	LOCK_SCOPE(&r->lock);
	h = r->first;
	while (h && (h->ino != ino || !h->adopted))
		h = h->next;
	if (h) {
		h->adopted = false;
		h->users++;
		atomic_fetch_sub(&adopted_count, 1);
	}
	return h;
}

void handle_forget(fuse_ino_t ino)
{
	struct handle *h;

	while (atomic_load(&adopted_count) > 0 && (h = take_adopted(ino)))
		(void)handle_put(h);
}

void handle_close_all(void)
{
	for (size_t i = 0; i < ROWS; i++) {
		struct handle *h;

		while ((h = rows[i].first)) {
			rows[i].first = h->next;
			while (h->f && h->opens-- > 0)
				overlay_close(h->n.o, h->f);
			handle_free(h);
		}
	}
	atomic_store(&open_count, 0);
	atomic_store(&adopted_count, 0);
}

unsigned handle_count(void)
{
	return atomic_load(&open_count);
}

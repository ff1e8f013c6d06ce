/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dsync.h - knows whether something on disk needs an fsync, and makes all who ask wait
 * for the one that covers them.
 *
 * dsync_mark after a change.  To sync: dsync_begin; if it says true, fsync and
 * tell dsync_end how it went.  A second caller waits inside dsync_begin and then
 * finds its change covered.  A failure sticks: what an fsync refused once is
 * never reported as written later.  A step that failed before the fsync, with
 * nothing lost (no space for a new file), is given up with dsync_cancel.
 */
#ifndef STORE_DSYNC_H
#define STORE_DSYNC_H

#include "base/cleanup.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct dsync {
	pthread_mutex_t lock;         /* held over the fsync */
	atomic_uint_fast64_t marks;   /* changes made */
	atomic_uint_fast64_t covered; /* those that an fsync covered; set under lock */
	atomic_int failed; /* -errno of the fsync that failed; set under lock */
};

static inline void dsync_init(struct dsync *s)
{
	(void)pthread_mutex_init(&s->lock, NULL); /* default attributes: no failure */
	atomic_init(&s->marks, 0);
	atomic_init(&s->covered, 0);
	atomic_init(&s->failed, 0);
}

static inline void dsync_fini(struct dsync *s)
{
	(void)pthread_mutex_destroy(&s->lock);
}

static inline void dsync_mark(struct dsync *s)
{
	atomic_fetch_add(&s->marks, 1);
}

/* Is there something that no fsync covered?  Takes no lock, never waits. */
static inline bool dsync_dirty(struct dsync *s)
{
	return atomic_load(&s->marks) != atomic_load(&s->covered) ||
	       atomic_load(&s->failed);
}

/*
 * 1: fsync now, then dsync_end with *ret_mark; 0: all is covered; -errno: an
 * earlier fsync failed.  On 1 the lock stays held.
 */
static inline int dsync_begin(struct dsync *s, uint64_t *ret_mark)
{
	(void)pthread_mutex_lock(&s->lock);
	*ret_mark = atomic_load(&s->marks);
	if (!atomic_load(&s->failed) && *ret_mark != atomic_load(&s->covered))
		return 1;
	(void)pthread_mutex_unlock(&s->lock);
	return atomic_load(&s->failed);
}

static inline int dsync_end(struct dsync *s, uint64_t mark, int rc)
{
	if (rc < 0)
		atomic_store(&s->failed, rc);
	else
		atomic_store(&s->covered, mark);
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

/* Ends what dsync_begin began without a verdict: the next caller tries again. */
static inline int dsync_cancel(struct dsync *s, int rc)
{
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

#endif

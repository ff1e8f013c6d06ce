/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * incoming.h - builds a layer of a stream's records, in a directory of the store that
 * nothing names, and puts it in its place as a new branch.
 *
 * The directory is STORE/receive.XXXXXX and locked (flock) while its maker lives; a
 * mount and gc remove those that are not.
 */
#ifndef STORE_INCOMING_H
#define STORE_INCOMING_H

#include "store/registry.h"
#include "store/stream.h"

#define INCOMING_PREFIX "receive."
#define INCOMING_NAME_MAX 24

struct incoming;

/* storefd: a store, mounted or not; borrowed. */
int incoming_new(int storefd, struct incoming **ret_in, struct err *e) MUST_CHECK;
/* Removes what was built and not adopted.  NULL is fine; returns NULL. */
struct incoming *incoming_free(struct incoming *in);
/* What it is called below the store. */
const char *incoming_dir(const struct incoming *in);
/* The data directory that S records speak of; borrowed.  Without one they are refused.
 */
void incoming_set_base(struct incoming *in, int basefd);
/* The next record, in the order of the stream; -EBADMSG if it does not fit in. */
int incoming_record(struct incoming *in, const struct stream_record *r,
		    struct err *e) MUST_CHECK;
/* How many records there were, but for H and E, and bytes of files. */
void incoming_count(const struct incoming *in, uint64_t *ret_records,
		    uint64_t *ret_bytes);
/* All of it is there: makes it durable. */
int incoming_finish(struct incoming *in, struct err *e) MUST_CHECK;

/* Is it the name of such a directory? */
bool incoming_is_dir(const char *name);
/* ...and does nobody work on it any more? */
bool incoming_is_left(int storefd, const char *name);
/*
 * A finished directory becomes branch spec->name (parent and checkpoint are not looked
 * at), by one durable record.  On failure the directory is where it was, or a layer
 * that nobody stands on.
 */
int registry_adopt(struct registry *r, const char *dir, const struct branch_spec *spec,
		   struct branch **ret_branch, struct err *e) MUST_CHECK;

#endif

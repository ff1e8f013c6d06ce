/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sanitize.h - masking: a policy's SQL on a new branch, before anybody may enter it.
 *
 * A branch whose record says `masking` is its maker's in name only: its data belongs to
 * the user of root's servers, and who connects is held.  What is not masked when
 * the daemon ends is discarded at the next mount.
 */
#ifndef CTL_SANITIZE_H
#define CTL_SANITIZE_H

#include "base/err.h"
#include "ctl/caller.h"
#include "ctl/policy.h"
#include "store/registry.h"

struct control;
struct sanitize;

/* Discards what an earlier mount left half masked. */
int sanitize_new(struct control *c, struct sanitize **ret_sanitize) MUST_CHECK;
/* Ends what runs: the mount is about to end. */
void sanitize_stop(struct sanitize *s);
/* Waits for it; the loop does not run any more. */
void sanitize_drain(struct sanitize *s);
struct sanitize *sanitize_free(struct sanitize *s); /* NULL is fine; returns NULL */

#define SANITIZE_LABEL 64
/*
 * How a branch is marked that this policy's file has masked: what is in the file
 * decides. label "" when the policy masks nothing.
 */
int sanitize_label(const struct policy *p, char label[static SANITIZE_LABEL],
		   struct err *e) MUST_CHECK;
/* Begins with a branch that was made with `masking`; how it ends, .error and the audit
 * log tell. */
void sanitize_begin(struct sanitize *s, const struct caller *who,
		    const struct policy *p, const char *label, struct branch *b);
/*
 * The same with a branch that is there only until another one has become what it holds.
 * fn is called once, on a thread that may wait: with rc 0 the branch is masked, and
 * stays as it is, for nobody to enter, until the copy is dropped; otherwise it goes by
 * itself and copy is NULL.
 */
struct sanitize_copy;
typedef void (*sanitize_copied)(void *ctx, int rc, const struct err *e,
				struct sanitize_copy *copy);
void sanitize_begin_copy(struct sanitize *s, const struct caller *who,
			 const struct policy *p, const char *label, struct branch *b,
			 sanitize_copied fn, void *ctx);
/* Discards the branch, soon. */
void sanitize_drop(struct sanitize_copy *copy);
/* fn is called when a branch was masked and before anybody is let in: its files have
 * another owner. */
void sanitize_on_end(struct sanitize *s, void (*fn)(void *ctx, struct branch *b),
		     void *ctx);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmwait.c - those who asked for a state of a server and are told when it is reached,
 * or will not be.  Each is told exactly once; being told, they may ask anew.
 */
#include "pg/postmaster_priv.h"

void pm_tell_waiters(struct postmaster *pm, unsigned wants, const struct err *e)
{
	struct waiter *mine = NULL, **tail = &mine, **p = &pm->waiters;

	/* first off the list: a callback may add new ones */
	while (*p) {
		struct waiter *w = *p;

		if (!(wants & PM_WANT_BIT(w->want))) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		w->next = NULL;
		*tail = w;
		tail = &w->next;
	}
	while (mine) {
		struct waiter *w = mine;

		mine = w->next;
		if (w->done)
			w->done(w->ctx, e ? e->code : 0, e);
		free(w);
	}
}

bool pm_is_waited_for(const struct postmaster *pm, enum pm_want want)
{
	const struct waiter *w = pm->waiters;

	while (w && w->want != want)
		w = w->next;
	return w != NULL;
}

void pm_tell_one(fleet_done done, void *ctx, int code, const char *why)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	if (!done)
		return;
	if (code == 0) {
		done(ctx, 0, NULL);
		return;
	}
	(void)err_set(&e, code, "%s", why);
	done(ctx, code, &e);
}

void pm_add_waiter(struct postmaster *pm, enum pm_want want, fleet_done done, void *ctx)
{
	struct waiter *w;

	if (!done)
		return;
	w = calloc(1, sizeof(*w));
	if (!w) {
		pm_tell_one(done, ctx, -ENOMEM, "out of memory");
		return;
	}
	*w = (struct waiter){pm->waiters, want, done, ctx};
	pm->waiters = w;
}

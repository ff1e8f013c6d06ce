/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmclient.c - what clients, and those who look for the socket, meet in each state
 * of a server: it is started for them, they wait, or they are told why not.
 */
#include "base/log.h"
#include "base/text.h"
#include "pg/postmaster_priv.h"

#include <inttypes.h>
#include <string.h>

void pm_tell_askers(struct postmaster *pm, int rc)
{
	struct asker *list = pm->askers;
	uint64_t fid = pm_socket_fid(pm);

	pm->askers = NULL;
	if (rc == 0 && !fid)
		rc = -ENOENT;
	while (list) {
		struct asker *a = list;

		list = a->next;
		/* a server may have come up although the listener did not */
		a->done(a->ctx, fid ? 0 : rc, fid);
		free(a);
	}
}

/* The client's hint: where to look on. */
static void hint_at_log(struct postmaster *pm, struct err *e)
{
	struct fleet_conf *conf = fleet_conf_now(pm->fleet);
	char name[64];

	(void)err_hint(e, "%s/%s/log says more", conf->mountpoint, pm_name(pm, name));
	(void)fleet_conf_put(conf);
}

void pm_refuse_for_failure(struct postmaster *pm, const char *why)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char name[64];

	(void)err_set(&e, -EIO, "branch \"%s\" could not be started: %s",
		      pm_name(pm, name), why);
	hint_at_log(pm, &e);
	activation_refuse(pm->act, &e);
}

void pm_refuse_for_unmount(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	(void)err_set(&e, -ESHUTDOWN, "the file system is being unmounted");
	activation_refuse(pm->act, &e);
}

static void refuse_as_gone(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;

	(void)err_set(&e, -ESHUTDOWN, "the branch is not available any more");
	activation_refuse(pm->act, &e);
}

static void refuse_by_hand(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char name[64];

	(void)err_set(&e, -ECANCELED, "branch \"%s\" is stopped by hand",
		      pm_name(pm, name));
	(void)err_hint(&e, "write running to its state file to start it");
	activation_refuse(pm->act, &e);
}

static void refuse_as_external(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	char name[64];

	(void)pm_external_error(pm, &e);
	(void)err_wrap(&e, -EBUSY, "branch \"%s\" is not served here",
		       pm_name(pm, name));
	(void)err_hint(&e, "connect to that server, or stop it first");
	activation_refuse(pm->act, &e);
}

/* Is a wake refused for now?  Says so, with the last reason, to those held. */
static bool refuse_for_now(struct postmaster *pm)
{
	int64_t left_ms = pm->slot->retry_at_ms - loop_now_ms();
	CLEAN(clean_free) char *why = NULL;

	if (left_ms <= 0)
		return false;
	why = text_format("%s (tried again in %" PRId64 " s)",
			  pm->slot->reason ? pm->slot->reason : "it failed repeatedly",
			  left_ms / 1000 + 1);
	pm_refuse_for_failure(pm, why ? why : "it failed repeatedly");
	return true;
}

void pm_client_came(void *ctx)
{
	struct postmaster *pm = ctx;
	struct branch_info info;

	if (pm->slot->gone || pm->fleet->closing) {
		refuse_as_gone(pm);
		return;
	}
	if (pm->slot->held) /* they wait for what it will be */
		return;
	if (pm->state == PM_RUNNING) {
		pm_idle_reset(pm);
		return;
	}
	/* while it stops they wait; what comes of them is decided at its end */
	if (pm->state == PM_STOPPING)
		pm_note_asked(pm);
	if (!pm_at_rest(pm) || !activation_asking(pm->act))
		return;
	if (pm->state == PM_EXTERNAL) {
		refuse_as_external(pm);
		return;
	}
	branch_info(pm->branch, &info);
	if (info.stopped_by_hand)
		refuse_by_hand(pm);
	else if (!refuse_for_now(pm))
		pm_begin(pm);
}

/* Kept as the last error of the client's uid, too. */
static void on_refused(void *ctx, uid_t uid, const struct err *e)
{
	const struct fleet *f = ((struct postmaster *)ctx)->fleet;

	if (f->refused)
		f->refused(f->refused_ctx, uid, e);
}

static void on_connected(void *ctx)
{
	struct postmaster *pm = ctx;

	pm_time(pm, PM_TIME_CLIENT);
	pm_times_tell(pm);
}

static void on_listening(void *ctx, int rc)
{
	struct postmaster *pm = ctx;
	char name[64];

	if (rc < 0 && rc != -ECANCELED)
		log_warn("branch %s: cannot make its wake-up listener: %s, its socket "
			 "cannot be reached until the next look-up",
			 pm_name(pm, name), strerrordesc_np(-rc));
	pm_publish(pm);
	pm_tell_askers(pm, rc);
}

static void on_settled(void *ctx)
{
	struct postmaster *pm = ctx;

	if (pm->state == PM_RUNNING)
		pm_times_tell(pm); /* who was held has left */
	fleet_check_down(pm->fleet);
}

const struct activation_events pm_client_events = {
	.client = pm_client_came,
	.refused = on_refused,
	.connected = on_connected,
	.listening = on_listening,
	.settled = on_settled,
};

void postmaster_socket(struct postmaster *pm,
		       void (*done)(void *ctx, int rc, uint64_t fid), void *ctx)
{
	uint64_t fid = pm_socket_fid(pm);
	struct asker *a;

	if (fid || pm->slot->gone || pm->fleet->closing) {
		done(ctx, fid ? 0 : -ENOENT, fid);
		return;
	}
	a = calloc(1, sizeof(*a));
	if (!a) {
		done(ctx, -ENOMEM, 0);
		return;
	}
	*a = (struct asker){pm->askers, done, ctx};
	pm->askers = a;
	activation_listen(pm->act);
}

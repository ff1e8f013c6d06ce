/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmclient.c - what clients, and those who look for the socket, meet in each state
 * of a server: it is started for them, they wait, or they are told why not.
 */
#include "base/log.h"
#include "pg/postmaster_priv.h"

#include <inttypes.h>
#include <stdio.h>
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

void pm_refuse_for_failure(struct postmaster *pm, const char *why)
{
	char name[64], msg[128];

	(void)snprintf(msg, sizeof(msg), "branch \"%s\" could not be started",
		       pm_name(pm, name));
	activation_refuse(pm->act, msg, why);
}

static void refuse_by_hand(struct postmaster *pm)
{
	char name[64], msg[128];

	(void)snprintf(msg, sizeof(msg), "branch \"%s\" is stopped by hand",
		       pm_name(pm, name));
	activation_refuse(pm->act, msg, "Write running to its state file to start it.");
}

/* Is a wake refused for now?  Says so, with the last reason, to those held. */
static bool refuse_for_now(struct postmaster *pm)
{
	int64_t left_ms = pm->slot->retry_at_ms - loop_now_ms();
	char why[400];

	if (left_ms <= 0)
		return false;
	(void)snprintf(why, sizeof(why), "%s (tried again in %" PRId64 " s)",
		       pm->slot->reason ? pm->slot->reason : "it failed repeatedly",
		       left_ms / 1000 + 1); /* cut off if too long */
	pm_refuse_for_failure(pm, why);
	return true;
}

void pm_client_came(void *ctx)
{
	struct postmaster *pm = ctx;
	struct branch_info info;

	if (pm->slot->gone || pm->fleet->closing) {
		activation_refuse(pm->act, "the branch is not available any more",
				  NULL);
		return;
	}
	if (pm->state == PM_RUNNING) {
		pm_idle_reset(pm);
		return;
	}
	/* while it stops they wait; what comes of them is decided at its end */
	if (pm->state == PM_STOPPING)
		pm_note_asked(pm);
	if (!pm_at_rest(pm) || !activation_held(pm->act))
		return;
	branch_info(pm->branch, &info);
	if (info.stopped_by_hand)
		refuse_by_hand(pm);
	else if (!refuse_for_now(pm))
		pm_begin(pm);
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

	fleet_check_down(pm->fleet);
}

const struct activation_events pm_client_events = {
	.client = pm_client_came,
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

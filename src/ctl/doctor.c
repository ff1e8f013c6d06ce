/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor - what is wrong with a mounted store, or soon will be.  All of it is for a
 * person to put right, but for servers that should not run: those are ended by `apply`.
 */
#include "base/text.h"
#include "ctl/expiry.h"
#include "ctl/upkeep_priv.h"
#include "pg/fence.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* A clock may differ by so much from the one that wrote a time. */
#define CLOCK_SLACK_S 60
/* Part of the descriptors that may be open, in percent. */
#define DESCRIPTORS_MAX 80

static void bad(struct upkeep *u, const char *kind, const char *name, const char *why)
{
	report_add(&u->answer, kind, name, 0, REPORT_BAD, why);
}

static void on_damage(void *ctx, const char *path, const char *branches,
		      const char *why)
{
	struct upkeep *u = ctx;
	CLEAN(clean_free) char *text = NULL;

	text = branches[0] ? text_format("%s; it costs: %s", why, branches)
			   : text_format("%s", why);
	bad(u, strncmp(path, "layers/", 7) == 0 ? "layer" : "record", path,
	    text ? text : why);
}

static void on_stray(void *ctx, pid_t pid)
{
	struct upkeep *u = ctx;
	char name[24];

	(void)snprintf(name, sizeof(name), "%d", (int)pid);
	report_add(&u->answer, "server", name, 0,
		   u->ask.apply ? REPORT_DONE : REPORT_PLAN,
		   "it runs on the store, and was not started by this mount");
}

static void look_at_branch(struct upkeep *u, struct branch *b, time_t now)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct branch_info info;
	char when[21];

	branch_info(b, &info);
	if (info.last_active > now + CLOCK_SLACK_S ||
	    info.created > now + CLOCK_SLACK_S) {
		CLEAN(clean_free) char *why = NULL;

		text_format_time(info.last_active > info.created ? info.last_active
								 : info.created,
				 when);
		why = text_format("it was used in the future, at %s: the clock is, or "
				  "was, wrong; touch it when it is right",
				  when);
		bad(u, "clock", info.name, why ? why : "out of memory");
	}
	if (control_check_name(u->c, info.name, &e) < 0)
		bad(u, "socket", info.name, err_text(&e));
}

static int look_at_branches(struct upkeep *u)
{
	struct branch **list = NULL;
	time_t now = time(NULL);
	int rc = registry_list(u->c->registry, &list);

	for (struct branch **b = list; b && *b; b++)
		look_at_branch(u, *b, now);
	branch_list_free(list);
	return rc;
}

static void look_at_clock(struct upkeep *u)
{
	int64_t held = expiry_held(u->c);
	CLEAN(clean_free) char *why = NULL;

	if (held == 0)
		return;
	why = text_format("it was set ahead, or the store was not used for long; no "
			  "branch expires for %llds",
			  (long long)held);
	bad(u, "clock", "system", why ? why : "out of memory");
}

static void look_at_descriptors(struct upkeep *u)
{
	DIR *d = opendir("/proc/self/fd");
	struct rlimit lim;
	rlim_t n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		(void)closedir(d);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 &&
	    n > lim.rlim_cur / 100 * DESCRIPTORS_MAX) {
		CLEAN(clean_free) char *why = NULL;

		why = text_format(
			"%llu of %llu are open; raise the limit of the daemon",
			(unsigned long long)n, (unsigned long long)lim.rlim_cur);
		bad(u, "descriptors", "daemon", why ? why : "out of memory");
	}
}

static void look_at_space(struct upkeep *u)
{
	CLEAN(clean_free) char *why = NULL;
	uint64_t reserve, available;
	struct statvfs st;

	if (registry_statvfs(u->c->registry, &st) < 0 ||
	    __builtin_mul_overflow((uint64_t)st.f_bavail, (uint64_t)st.f_frsize,
				   &available))
		return;
	{
		LOCK_SCOPE(&u->c->lock);
		reserve = u->c->cfg->reserve_bytes;
	}
	if (available >= reserve)
		return;
	why = text_format(
		"%llu MiB are free, the reserve is %llu MiB: no branch can be "
		"made",
		(unsigned long long)(available >> 20),
		(unsigned long long)(reserve >> 20));
	bad(u, "space", registry_path(u->c->registry), why ? why : "out of memory");
}

void doctor_run(void *ctx)
{
	struct upkeep *u = ctx;
	int rc = check_damage(u->c->registry, on_damage, u);

	if (rc == 0)
		rc = fence_strays(u->c->registry, u->ask.apply, on_stray, u, &u->err);
	if (rc == 0)
		rc = look_at_branches(u);
	if (rc == 0) {
		look_at_clock(u);
		look_at_descriptors(u);
		look_at_space(u);
		if (!u->c->audit)
			bad(u, "audit", AUDIT_FILE, "it could not be opened");
	}
	upkeep_end(u, rc);
}

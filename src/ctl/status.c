/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every text is made from what is in memory at the moment of the read.  The two
 * forms of a branch's status come from one list of fields, so that they cannot
 * differ.
 */
#include "ctl/status.h"

#include "ctl/metrics.h"
#include "ctl/tree.h"
#include "ctl/upkeep.h"

#include <pwd.h>
#include <string.h>

struct status_view {
	struct branch_info info;
	struct pm_status pm;
	uint64_t bytes;
};

/* One field in both forms; text NULL: there is none ("-", null). */
struct status_out {
	struct str *out;
	bool json;
	bool first;
};

static void field_key(struct status_out *so, const char *key)
{
	if (so->json)
		str_printf(so->out, "%s  \"%s\": ", so->first ? "{\n" : ",\n", key);
	else
		str_printf(so->out, "%s ", key);
	so->first = false;
}

static void field_text(struct status_out *so, const char *key, const char *text)
{
	field_key(so, key);
	if (so->json && text) {
		str_json(so->out, text);
	} else if (so->json) {
		str_add(so->out, "null");
	} else {
		/* one line a key, whatever a server said */
		for (const char *p = text ? text : "-"; *p; p++)
			str_addn(so->out, (unsigned char)*p < 0x20 ? " " : p, 1);
		str_add(so->out, "\n");
	}
}

static void field_number(struct status_out *so, const char *key, uint64_t v)
{
	field_key(so, key);
	str_printf(so->out, "%llu%s", (unsigned long long)v, so->json ? "" : "\n");
}

static void field_bool(struct status_out *so, const char *key, bool v)
{
	field_key(so, key);
	if (so->json)
		str_add(so->out, v ? "true" : "false");
	else
		str_add(so->out, v ? "1\n" : "0\n");
}

static void field_time(struct status_out *so, const char *key, time_t t)
{
	char buf[21];

	if (t != 0)
		text_format_time(t, buf);
	field_text(so, key, t != 0 ? buf : NULL);
}

/* Seconds from t until now. */
static void field_since(struct status_out *so, const char *key, time_t t)
{
	time_t now = time(NULL);

	if (t != 0)
		field_number(so, key, now > t ? (uint64_t)(now - t) : 0);
	else
		field_text(so, key, NULL);
}

static const char *or_null(const char *s)
{
	return s[0] != '\0' ? s : NULL;
}

static void render_fields(const struct status_view *v, bool json, struct str *out)
{
	struct status_out so = {out, json, true};
	const struct branch_info *info = &v->info;
	const struct pm_status *pm = &v->pm;

	field_text(&so, "name", info->name);
	field_number(&so, "no", info->no);
	field_text(&so, "state", pm_state_name(pm->state));
	if (pm->pid > 0)
		field_number(&so, "pid", (uint64_t)pm->pid);
	else
		field_text(&so, "pid", NULL);
	field_time(&so, "since", pm->since);
	field_text(&so, "parent", or_null(info->parent));
	field_text(&so, "parent_checkpoint", or_null(info->parent_checkpoint));
	field_bool(&so, "parent_gone", info->parent_gone);
	field_number(&so, "owner", info->owner);
	field_time(&so, "created", info->created);
	field_time(&so, "last_active", info->last_active);
	field_since(&so, "idle", info->last_active);
	field_time(&so, "expires", info->expires);
	field_bool(&so, "loaded", info->loaded);
	field_number(&so, "depth", info->depth);
	field_number(&so, "bytes", v->bytes);
	field_number(&so, "checkpoints", info->checkpoints);
	field_number(&so, "automatic_checkpoints", info->automatic);
	field_bool(&so, "protected", info->is_protected);
	field_bool(&so, "prepared", info->prepared);
	field_bool(&so, "stopped_by_hand", info->stopped_by_hand);
	field_number(&so, "wakes", pm->wakes);
	field_text(&so, "reason", or_null(pm->reason));
	if (json)
		str_add(out, "\n}\n");
}

static int render_status(struct control *c, struct branch *b, bool json,
			 struct str *out)
{
	struct status_view v = {.bytes = 0};
	int rc;

	branch_info(b, &v.info);
	fleet_status(control_fleet(c), b, &v.pm);
	rc = branch_own_bytes(b, &v.bytes);
	if (rc < 0)
		return rc;
	render_fields(&v, json, out);
	return 0;
}

/* With the role of who reads it. */
static void render_url(struct control *c, const struct branch_info *info,
		       const struct caller *who, struct str *out)
{
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;
	const char *role;

	control_rights(c, who, &rt);
	role = rt.p && rt.p->role ? rt.p->role : control_superuser(c);
	str_add(out, "postgresql://");
	/* str_uri lets '/' stand, which would end the user's part */
	for (const char *s = role; *s; s++) {
		const char one[2] = {*s, '\0'};

		if (*s == '/')
			str_add(out, "%2F");
		else
			str_uri(out, one);
	}
	str_add(out, "@/postgres?host=");
	str_uri(out, control_mountpoint(c));
	str_printf(out, "/%s\n", info->name);
}

static void render_parent(const struct branch_info *info, struct str *out)
{
	if (info->parent[0] != '\0')
		str_printf(out, "%s%s%s%s\n", info->parent,
			   info->parent_checkpoint[0] ? ":" : "",
			   info->parent_checkpoint, info->parent_gone ? " (gone)" : "");
}

static void render_owner(const struct branch_info *info, struct str *out)
{
	struct passwd pw, *found = NULL;
	char buf[4096];

	/* a uid without a name, or a directory service that is away: the uid alone */
	if (getpwuid_r(info->owner, &pw, buf, sizeof(buf), &found) == 0 && found)
		str_printf(out, "%u %s\n", info->owner, found->pw_name);
	else
		str_printf(out, "%u\n", info->owner);
}

static void render_expires(const struct branch_info *info, struct str *out)
{
	char when[21];

	text_format_time(info->expires, when);
	str_printf(out, "%s\n", info->expires ? when : "never");
}

/* Of what is known without its server. */
static int render_trashed(struct control *c, struct branch *b,
			  const struct branch_info *info, struct str *out)
{
	struct status_out so = {out, false, true};
	uint64_t bytes = 0;
	int rc = branch_own_bytes(b, &bytes);

	if (rc < 0)
		return rc;
	field_text(&so, "name", info->name);
	field_number(&so, "no", info->no);
	field_text(&so, "parent", or_null(info->parent));
	field_bool(&so, "parent_gone", info->parent_gone);
	field_number(&so, "owner", info->owner);
	field_time(&so, "created", info->created);
	field_time(&so, "last_active", info->last_active);
	field_time(&so, "expires", info->expires);
	field_number(&so, "depth", info->depth);
	field_time(&so, "discarded", info->trashed);
	field_time(&so, "removed", control_purge_time(c, info->trashed));
	field_number(&so, "bytes", bytes);
	return 0;
}

/* What undoes all that was written since. */
static int render_rollback(struct control *c, struct branch *b, struct str *out)
{
	struct checkpoint_info below;
	int rc = checkpoint_below(control_registry(c), b, &below);

	if (rc == 0)
		str_printf(out, "%s\n", below.name);
	return rc == -ENOENT ? 0 : rc;
}

static int render_branch(struct control *c, enum status_file which, struct branch *b,
			 const struct caller *who, struct str *out)
{
	struct branch_info info;
	struct pm_status pm;

	if (which == STATUS_TEXT || which == STATUS_JSON)
		return render_status(c, b, which == STATUS_JSON, out);
	branch_info(b, &info);
	if (which == STATUS_STATE) {
		fleet_status(control_fleet(c), b, &pm);
		str_printf(out, "%s\n", pm_state_name(pm.state));
	} else if (which == STATUS_URL) {
		render_url(c, &info, who, out);
	} else if (which == STATUS_PARENT) {
		render_parent(&info, out);
	} else if (which == STATUS_OWNER) {
		render_owner(&info, out);
	} else if (which == STATUS_EXPIRES) {
		render_expires(&info, out);
	} else if (which == STATUS_TRASHED) {
		return render_trashed(c, b, &info, out);
	} else if (which == STATUS_PROTECTED) {
		str_add(out, info.is_protected ? "1\n" : "0\n");
	} else if (which == STATUS_ROLLBACK) {
		return render_rollback(c, b, out);
	} else if (which == STATUS_RESET) {
		str_add(out, info.parent[0] && !info.parent_gone ? "parent\n" : "");
	} else {
		return -EINVAL;
	}
	return 0;
}

static int render_tree(struct control *c, const struct rights *rt,
		       const struct caller *who, struct str *out)
{
	CLEAN(clean_free) struct tree_branch *branches = NULL;
	struct branch **list;
	size_t n = 0, seen = 0;
	int rc = registry_list(control_registry(c), &list);

	if (rc < 0)
		return rc;
	while (list[n])
		n++;
	branches = calloc(n ? n : 1, sizeof(*branches));
	for (size_t i = 0; branches && i < n; i++) {
		struct pm_status pm;

		if (!control_sees_with(c, rt, who, list[i]))
			continue;
		branch_info(list[i], &branches[seen].info);
		fleet_status(control_fleet(c), list[i], &pm);
		branches[seen++].state = pm_state_name(pm.state);
	}
	branch_list_free(list);
	return branches ? tree_draw(control_mountpoint(c), branches, seen, out)
			: -ENOMEM;
}

static int render_readme(struct control *c, struct str *out)
{
	const char *mnt = control_mountpoint(c), *user = control_superuser(c);
	CLEAN(clean_free) char *parent = control_default_parent(c);

	if (!parent)
		return -ENOMEM;
	str_printf(out, "This tree is a Postgres cluster and its branches. A directory "
			"here is a\n"
			"branch: a whole, writable copy of the cluster that shares "
			"with its parent\n"
			"all that neither changed since. Branches do not see each "
			"other's changes.\n\n");
	str_printf(out,
		   "Use a branch (connecting starts its server, you wait a moment):\n"
		   "  psql -h %s/NAME -U %s DATABASE\n"
		   "  cat NAME/url                 the same as a libpq URI\n\n",
		   mnt, user);
	str_printf(
		out,
		"Change the tree with plain file operations:\n"
		"  mkdir NAME                   branch of %s as it is now\n"
		"  mkdir NAME@PARENT            branch of PARENT; the entry appears as "
		"NAME\n"
		"  rmdir NAME                   discard it: its sessions end, its data "
		"is gone;\n"
		"                               branches made from it live on\n"
		"  mv OLD NEW                   rename it; connections live on\n"
		"  mkdir NAME/checkpoints/C     keep what it holds now; rmdir drops "
		"that\n"
		"  mkdir NEW@NAME:C             branch of what that checkpoint holds\n"
		"  echo C > NAME/rollback       NAME becomes that; what it was is kept "
		"as "
		"a\n"
		"                               checkpoint; its sessions end\n"
		"  echo parent > NAME/reset     NAME becomes what its parent is now\n"
		"  ls .checkpoints              those of discarded branches, as "
		"NAME:C\n"
		"  echo stopped > NAME/state    stop its server and keep it stopped\n"
		"  echo running > NAME/state    start it; connecting wakes it again "
		"from now on\n"
		"  echo 2h > NAME/expires       discard it in two hours; or a time, or "
		"never\n"
		"  echo 1 > NAME/protected      refuse to discard it; 0 lifts that\n"
		"  ls .trash                    what was discarded and is kept for a "
		"while\n"
		"  mv .trash/NAME@TIME NAME     bring it back\n"
		"  chmod 750 NAME; chgrp GROUP NAME    share it with a group\n\n",
		parent);
	str_printf(
		out,
		"Something failed? The reason, and what to do about it:\n"
		"  cat .error                   your last failed request here\n\n"
		"Look around; nothing of this starts a server:\n"
		"  ls                           the branches\n"
		"  cat .tree                    which was made from which\n"
		"  cat .metrics                 figures for Prometheus\n"
		"  cat NAME/status              one \"key value\" a line; "
		"status.json for programs\n"
		"  cat NAME/state               stopped starting running stopping "
		"failed\n"
		"                               external (a server that is not ours)\n"
		"  cat NAME/parent NAME/owner   where it comes from, whose it is\n"
		"  cat NAME/log                 what its server logged\n"
		"  NAME/data                    its data directory\n\n");
	str_printf(out,
		   "Names: a letter or digit, then letters, digits, '_', '-', '.'; at "
		   "most %d bytes.\n"
		   "A branch that nobody uses is stopped and costs nothing; its data "
		   "stays.\n"
		   "%s is the base: protected, never discarded or renamed. See "
		   "pgbranchfs(1).\n",
		   NAME_LEN_MAX, MAIN_BRANCH);
	return 0;
}

static int render_error(struct control *c, uid_t uid, struct str *out)
{
	CLEAN(clean_free) char *text = control_error_text(c, uid);

	if (!text)
		return -ENOMEM;
	str_add(out, text);
	return 0;
}

static int render_upkeep(struct control *c, struct str *out)
{
	CLEAN(clean_free) char *text = upkeep_answer(c);

	if (!text)
		return -ENOMEM;
	str_add(out, text);
	return 0;
}

struct viewer {
	struct control *c;
	const struct rights *rt;
	const struct caller *who;
};

static bool viewer_sees(void *ctx, struct branch *b)
{
	const struct viewer *v = ctx;

	return control_sees_with(v->c, v->rt, v->who, b);
}

static int render_metrics(struct control *c, const struct rights *rt,
			  const struct caller *who, struct str *out)
{
	struct viewer v = {c, rt, who};

	return metrics_render(control_metrics(c),
			      policy_sees_all(rt) ? NULL : viewer_sees, &v, out);
}

static int render_for(struct control *c, const struct caller *who,
		      int (*render)(struct control *c, const struct rights *rt,
				    const struct caller *who, struct str *out),
		      struct str *out)
{
	CLEAN(rights_fini) struct rights rt = RIGHTS_INIT;

	control_rights(c, who, &rt);
	return render(c, &rt, who, out);
}

int status_render(struct control *c, enum status_file which, struct branch *b,
		  const struct caller *who, struct str *out)
{
	int rc;

	if (which == STATUS_README)
		rc = render_readme(c, out);
	else if (which == STATUS_TREE)
		rc = render_for(c, who, render_tree, out);
	else if (which == STATUS_UPKEEP)
		rc = render_upkeep(c, out);
	else if (which == STATUS_ERROR)
		rc = render_error(c, who->uid, out);
	else if (which == STATUS_METRICS)
		rc = render_for(c, who, render_metrics, out);
	else
		rc = b ? render_branch(c, which, b, who, out) : -EINVAL;
	return rc == 0 && out->failed ? -ENOMEM : rc;
}

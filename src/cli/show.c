/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs list, tree, status: tables for people, --json for programs.
 */
#include "cli/cli.h"

#include "base/fd.h"
#include "base/text.h"
#include "cli/listing.h"
#include "cli/mounts.h"

#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define TREE_BYTES_MAX (64 * 1024 * 1024)
#define OWNER_COLUMN 33

struct show {
	struct mount_entry mount;
	struct listing listing;
	bool json;
};

static void show_fini(struct show *sh)
{
	mount_entry_fini(&sh->mount);
	listing_fini(&sh->listing);
}

/* Options and mount point, the same for all three.  -1: go on. */
static int show_args(const struct cli_command *self, int argc, char **argv,
		     struct show *sh, struct err *e)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool dead = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt != 'j')
			return opt == 'h' ? cli_help(self) : cli_usage(self, NULL);
		sh->json = true;
	}
	if (argc - optind > 1)
		return cli_usage(self, "%s takes at most one directory", self->name);
	if (mounts_choose(argv[optind], &sh->mount, &dead, e) < 0)
		return cli_fail(e);
	if (dead) {
		(void)err_set(e, -ENOTCONN, "the daemon of '%s' is dead",
			      sh->mount.mountpoint);
		(void)err_hint(e, "mount the store %s there again", sh->mount.store);
		return cli_fail(e);
	}
	return -1;
}

static int print_json(struct show *sh, struct err *e)
{
	struct str out = STR_INIT;
	int rc = listing_json(sh->mount.mountpoint, &sh->listing, &out, e);

	if (rc == 0)
		printf("%s\n", out.s);
	str_fini(&out);
	return rc < 0 ? cli_fail(e) : cli_flush();
}

/* The name of a uid that a status file shows as a number. */
static void owner_name(const char *owner, char buf[static OWNER_COLUMN])
{
	const struct passwd *pw = NULL;
	uint64_t uid;

	if (text_parse_u64(owner, 10, UINT32_MAX, &uid) == 0)
		pw = getpwuid((uid_t)uid);
	(void)snprintf(buf, OWNER_COLUMN, "%s", pw ? pw->pw_name : owner);
}

static int max_int(int a, size_t b)
{
	return b > (size_t)a ? (int)b : a;
}

static void print_row(const struct listing_row *r, int name_w, int owner_w,
		      int parent_w)
{
	char size[8], age[24], owner[OWNER_COLUMN];

	if (!r->state) {
		printf("%-*s  -\n", name_w, r->name);
		return;
	}
	listing_size(r->bytes, size);
	listing_age(time(NULL) - r->created, age);
	owner_name(r->owner, owner);
	printf("%-*s  %-8s  %-*s  %-*s  %5llu  %6s  %6s\n", name_w, r->name, r->state,
	       owner_w, owner, parent_w, r->parent, (unsigned long long)r->depth, size,
	       age);
}

static int run_list(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(show_fini) struct show sh = {.json = false};
	CLEAN(err_fini) struct err e = ERR_INIT;
	int name_w = 4, owner_w = 5, parent_w = 6;
	int rc = show_args(self, argc, argv, &sh, &e);

	if (rc >= 0)
		return rc;
	if (listing_load(sh.mount.mountpoint, &sh.listing, &e) < 0)
		return cli_fail(&e);
	if (sh.json)
		return print_json(&sh, &e);
	for (size_t i = 0; i < sh.listing.n; i++) {
		struct listing_row *r = &sh.listing.rows[i];
		char owner[OWNER_COLUMN];

		name_w = max_int(name_w, strlen(r->name));
		if (!r->state)
			continue;
		if (r->parent_gone) {
			char *marked = text_format("%s (gone)", r->parent);

			free(r->parent);
			r->parent = marked ? marked : strdup("");
		}
		owner_name(r->owner, owner);
		owner_w = max_int(owner_w, strlen(owner));
		parent_w = max_int(parent_w, strlen(r->parent));
	}
	printf("%-*s  %-8s  %-*s  %-*s  %5s  %6s  %6s\n", name_w, "NAME", "STATE",
	       owner_w, "OWNER", parent_w, "PARENT", "DEPTH", "BYTES", "AGE");
	for (size_t i = 0; i < sh.listing.n; i++)
		print_row(&sh.listing.rows[i], name_w, owner_w, parent_w);
	return cli_flush();
}

static int run_tree(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(show_fini) struct show sh = {.json = false};
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(clean_free) char *path = NULL, *text = NULL;
	int rc = show_args(self, argc, argv, &sh, &e);

	if (rc >= 0)
		return rc;
	if (sh.json)
		return listing_load(sh.mount.mountpoint, &sh.listing, &e) < 0
			       ? cli_fail(&e)
			       : print_json(&sh, &e);
	path = text_format("%s/.tree", sh.mount.mountpoint);
	rc = path ? fd_read_file(AT_FDCWD, path, TREE_BYTES_MAX, &text, NULL) : -ENOMEM;
	if (rc < 0) {
		(void)err_set(&e, rc, "cannot read '%s/.tree': %s", sh.mount.mountpoint,
			      strerrordesc_np(-rc));
		return cli_fail(&e);
	}
	(void)fputs(text, stdout); /* cli_flush tells */
	return cli_flush();
}

struct totals {
	size_t branches, running, failed, hidden;
	uint64_t bytes;
	uint64_t free_bytes;
};

static int count_totals(const struct show *sh, struct totals *ret_totals, struct err *e)
{
	struct totals t = {.branches = sh->listing.n};
	struct statvfs st;

	for (size_t i = 0; i < sh->listing.n; i++) {
		const struct listing_row *r = &sh->listing.rows[i];

		if (!r->state) {
			t.hidden++;
			continue;
		}
		t.running += strcmp(r->state, "running") == 0;
		t.failed += strcmp(r->state, "failed") == 0;
		t.bytes += r->bytes;
	}
	if (statvfs(sh->mount.mountpoint, &st) < 0) {
		int rc = -errno;

		return err_set(e, rc, "cannot ask '%s' for its free space: %s",
			       sh->mount.mountpoint, strerrordesc_np(-rc));
	}
	t.free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	*ret_totals = t;
	return 0;
}

static void print_totals(const struct show *sh, const struct totals *t)
{
	char size[8], avail[8];

	listing_size(t->bytes, size);
	listing_size(t->free_bytes, avail);
	printf("mountpoint  %s\n", sh->mount.mountpoint);
	printf("store       %s\n", sh->mount.store);
	printf("branches    %zu\n", t->branches);
	printf("running     %zu\n", t->running);
	printf("failed      %zu\n", t->failed);
	printf("bytes       %s\n", size);
	printf("free        %s\n", avail);
	if (t->hidden > 0)
		printf("(%zu branches are closed to you and not counted in the rest)\n",
		       t->hidden);
}

static int print_totals_json(const struct show *sh, const struct totals *t,
			     struct err *e)
{
	struct str out = STR_INIT;
	int rc;

	str_add(&out, "{\n\"mountpoint\": ");
	str_json(&out, sh->mount.mountpoint);
	str_add(&out, ",\n\"store\": ");
	str_json(&out, sh->mount.store);
	str_printf(&out,
		   ",\n\"running\": %zu,\n\"failed\": %zu,\n\"bytes\": %llu,\n"
		   "\"free_bytes\": %llu,\n\"branches\": ",
		   t->running, t->failed, (unsigned long long)t->bytes,
		   (unsigned long long)t->free_bytes);
	rc = listing_json(sh->mount.mountpoint, &sh->listing, &out, e);
	if (rc == 0)
		printf("%s\n}\n", out.s);
	str_fini(&out);
	return rc < 0 ? cli_fail(e) : cli_flush();
}

static int run_status(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(show_fini) struct show sh = {.json = false};
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct totals t = {0};
	int rc = show_args(self, argc, argv, &sh, &e);

	if (rc >= 0)
		return rc;
	if (listing_load(sh.mount.mountpoint, &sh.listing, &e) < 0 ||
	    count_totals(&sh, &t, &e) < 0)
		return cli_fail(&e);
	if (sh.json)
		return print_totals_json(&sh, &t, &e);
	print_totals(&sh, &t);
	return cli_flush();
}

#define SHOW_HELP "  MOUNTPOINT  may be left out when only one pgbranchfs is mounted\n"
#define SHOW_ARGS "[MOUNTPOINT] [--json]"

const struct cli_command cmd_list = {
	.name = "list",
	.args = SHOW_ARGS,
	.summary = "List the branches of a mount",
	.help = SHOW_HELP
	"  --json      the branches' status.json files as one array\n",
	.run = run_list,
};

const struct cli_command cmd_tree = {
	.name = "tree",
	.args = SHOW_ARGS,
	.summary = "Draw which branch was made from which",
	.help = SHOW_HELP
	"  --json      the branches' status.json files as one array\n",
	.run = run_tree,
};

const struct cli_command cmd_status = {
	.name = "status",
	.args = SHOW_ARGS,
	.summary = "Show what a mount holds in total",
	.help = SHOW_HELP "  --json      the totals, with the branches as an array\n",
	.run = run_status,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs tree and status, and what they share with list: tables for people,
 * --json for programs.
 */
#include "cli/show.h"

#include "base/fd.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define TREE_BYTES_MAX (64 * 1024 * 1024)
#define WATCH_S 2
#define WATCH_MAX_S 86400

void show_fini(struct show *sh)
{
	mount_entry_fini(&sh->mount);
	listing_fini(&sh->listing);
}

static int say_dead(const struct mount_entry *mount, struct err *e)
{
	(void)err_set(e, -ENOTCONN, "the daemon of '%s' is dead", mount->mountpoint);
	return err_hint(e, "mount the store %s there again", mount->store);
}

/* 0, or the exit status of wrong usage. */
static int parse_watch(const struct cli_command *self, const char *word,
		       unsigned *ret_watch_s)
{
	uint64_t s = WATCH_S;

	if (word && (text_parse_duration(word, &s) < 0 || s == 0 || s > WATCH_MAX_S))
		return cli_usage(self, "--watch takes seconds, at least 1, not '%s'",
				 word);
	*ret_watch_s = (unsigned)s;
	return 0;
}

int show_args(const struct cli_command *self, bool can_watch, int argc, char **argv,
	      struct show *sh)
{
	const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"color", optional_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{can_watch ? "watch" : NULL, optional_argument, NULL, 'w'},
		{NULL, 0, NULL, 0},
	};
	CLEAN(err_fini) struct err e = ERR_INIT;
	enum color_when color = COLOR_AUTO;
	bool dead = false;
	int opt, rc = 0;

	while (rc == 0 && (opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(self);
		if (opt == 'j')
			sh->json = true;
		else if (opt == 'w')
			rc = parse_watch(self, optarg, &sh->watch_s);
		else if (opt != 'c')
			rc = cli_usage(self, NULL);
		else if (color_parse(optarg, &color) < 0)
			rc = cli_usage(self, "--color takes auto, always or never");
	}
	if (rc == 0 && argc - optind > 1)
		rc = cli_usage(self, "%s takes at most one directory", self->name);
	if (rc == 0 && sh->json && sh->watch_s)
		rc = cli_usage(self, "--json and --watch do not go together");
	if (rc != 0)
		return rc;
	sh->color = color_wanted(color, isatty(STDOUT_FILENO), getenv("TERM"),
				 getenv("NO_COLOR"));
	if (mounts_choose(argv[optind], &sh->mount, &dead, &e) < 0)
		return cli_fail(&e);
	if (dead) {
		(void)say_dead(&sh->mount, &e);
		return cli_fail(&e);
	}
	return -1;
}

/* What stood at the path may by now be an empty directory, and read as such. */
static int check_mounted(const struct mount_entry *mount, struct err *e)
{
	CLEAN(mount_entry_fini) struct mount_entry now = {NULL, NULL, 0};
	bool dead = false;

	if (mounts_choose(mount->mountpoint, &now, &dead, NULL) < 0)
		return err_set(e, -ENODEV, "'%s' is not mounted any more",
			       mount->mountpoint);
	return dead ? say_dead(mount, e) : 0;
}

int show_load(const struct mount_entry *mount, struct listing *ret_listing,
	      struct err *e)
{
	CLEAN(listing_fini) struct listing l = LISTING_INIT;
	int rc = listing_load(mount->mountpoint, &l, e);
	int gone = check_mounted(mount, e);

	if (gone < 0 || rc < 0)
		return gone < 0 ? gone : rc;
	*ret_listing = l;
	l = (struct listing)LISTING_INIT;
	return 0;
}

int show_json(struct show *sh)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct str out = STR_INIT;
	int rc = listing_json(sh->mount.mountpoint, &sh->listing, &out, &e);

	if (rc == 0)
		printf("%s\n", out.s);
	str_fini(&out);
	return rc < 0 ? cli_fail(&e) : cli_flush();
}

static int run_tree(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(show_fini) struct show sh = SHOW_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(clean_free) char *path = NULL, *text = NULL;
	CLEAN(str_fini) struct str out = STR_INIT;
	int rc = show_args(self, false, argc, argv, &sh);

	if (rc >= 0)
		return rc;
	if (sh.json)
		return show_load(&sh.mount, &sh.listing, &e) < 0 ? cli_fail(&e)
								 : show_json(&sh);
	path = text_format("%s/.tree", sh.mount.mountpoint);
	rc = path ? fd_read_file(AT_FDCWD, path, TREE_BYTES_MAX, &text, NULL) : -ENOMEM;
	if (rc == 0 && sh.color) {
		color_tree(&out, text);
		rc = out.failed ? -ENOMEM : 0;
	}
	if (rc < 0) {
		(void)err_set(&e, rc, "cannot read '%s/.tree': %s", sh.mount.mountpoint,
			      strerrordesc_np(-rc));
		return cli_fail(&e);
	}
	(void)fputs(sh.color ? out.s : text, stdout); /* cli_flush tells */
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

static void print_count(const struct show *sh, const char *key, size_t n,
			const char *color)
{
	CLEAN(str_fini) struct str out = STR_INIT;
	char number[24];

	(void)snprintf(number, sizeof(number), "%zu", n);
	color_add(&out, sh->color && n > 0 ? color : NULL, number, strlen(number));
	printf("%-10s  %s\n", key, out.failed ? number : out.s);
}

static void print_totals(const struct show *sh, const struct totals *t)
{
	char size[8], avail[8];

	listing_size(t->bytes, size);
	listing_size(t->free_bytes, avail);
	printf("mountpoint  %s\n", sh->mount.mountpoint);
	printf("store       %s\n", sh->mount.store);
	print_count(sh, "branches", t->branches, NULL);
	print_count(sh, "running", t->running, COLOR_GOOD);
	print_count(sh, "failed", t->failed, COLOR_BAD);
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
	CLEAN(show_fini) struct show sh = SHOW_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct totals t = {0};
	int rc = show_args(self, false, argc, argv, &sh);

	if (rc >= 0)
		return rc;
	if (show_load(&sh.mount, &sh.listing, &e) < 0 || count_totals(&sh, &t, &e) < 0)
		return cli_fail(&e);
	if (sh.json)
		return print_totals_json(&sh, &t, &e);
	print_totals(&sh, &t);
	return cli_flush();
}

#define SHOW_ARGS "[MOUNTPOINT] [--json] [--color[=WHEN]]"

const struct cli_command cmd_tree = {
	.name = "tree",
	.args = SHOW_ARGS,
	.summary = "Draw which branch was made from which",
	.help = SHOW_HELP
	"  --json          the branches' status.json files as one array\n",
	.run = run_tree,
};

const struct cli_command cmd_status = {
	.name = "status",
	.args = SHOW_ARGS,
	.summary = "Show what a mount holds in total",
	.help = SHOW_HELP
	"  --json          the totals, with the branches as an array\n",
	.run = run_status,
};

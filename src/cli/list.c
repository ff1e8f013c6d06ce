/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs list: a row a branch, once or again and again.
 */
#include "cli/show.h"
#include "cli/table.h"
#include "cli/watch.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

static const struct table_column columns[] = {
	{"NAME", false}, {"STATE", false}, {"OWNER", false}, {"PARENT", false},
	{"DEPTH", true}, {"BYTES", true},  {"AGE", true},    {"IDLE", true},
};

/* The name of a uid that a status file shows as a number. */
static void add_owner(struct table *t, const char *owner)
{
	const struct passwd *pw = NULL;
	uint64_t uid;

	if (text_parse_u64(owner, 10, UINT32_MAX, &uid) == 0)
		pw = getpwuid((uid_t)uid);
	table_add(t, pw ? pw->pw_name : owner, NULL);
}

static void add_parent(struct table *t, const struct listing_row *r)
{
	CLEAN(clean_free) char *marked = NULL;

	if (r->parent_gone)
		marked = text_format("%s (gone)", r->parent);
	table_add(t, marked ? marked : r->parent, r->parent_gone ? COLOR_DIM : NULL);
}

static void add_since(struct table *t, time_t when, time_t now)
{
	char age[24];

	listing_age(now - when, age);
	table_add(t, when ? age : "-", NULL);
}

static void add_row(struct table *t, const struct listing_row *r, time_t now)
{
	char depth[24], size[8];

	table_add(t, r->name, NULL);
	if (!r->state) { /* closed to us */
		for (size_t i = 1; i < ARRAY_SIZE(columns); i++)
			table_add(t, "-", COLOR_DIM);
		return;
	}
	(void)snprintf(depth, sizeof(depth), "%llu", (unsigned long long)r->depth);
	listing_size(r->bytes, size);
	table_add(t, r->state, color_of_state(r->state));
	add_owner(t, r->owner);
	add_parent(t, r);
	table_add(t, depth, NULL);
	table_add(t, size, NULL);
	add_since(t, r->created, now);
	add_since(t, r->last_active, now);
}

static void make_table(struct table *t, const struct listing *l)
{
	time_t now = time(NULL);

	*t = (struct table){.columns = columns, .ncolumns = ARRAY_SIZE(columns)};
	for (size_t i = 0; i < l->n; i++)
		add_row(t, &l->rows[i], now);
}

static int print_list(struct show *sh)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	CLEAN(str_fini) struct str out = STR_INIT;
	CLEAN(table_fini) struct table t;

	make_table(&t, &sh->listing);
	table_render(&t, sh->color, 0, SIZE_MAX, &out);
	if (out.failed) {
		(void)err_set(&e, -ENOMEM, "out of memory");
		return cli_fail(&e);
	}
	(void)fputs(out.s, stdout); /* cli_flush tells */
	return cli_flush();
}

/* --- again and again --- */

struct list_watch {
	struct show *sh; /* sh->listing is what is shown */
	struct listing fetched;
};

static int fetch(void *ctx, struct err *e)
{
	struct list_watch *lw = ctx;

	return show_load(&lw->sh->mount, &lw->fetched, e);
}

static void take(void *ctx)
{
	struct list_watch *lw = ctx;

	listing_fini(&lw->sh->listing);
	lw->sh->listing = lw->fetched;
	lw->fetched = (struct listing)LISTING_INIT;
}

/* Adds one line that is cut to its columns. */
static void add_line(struct str *out, const char *line, size_t width)
{
	str_addn(out, line, line ? table_text_cut(line, width) : 0);
	str_add(out, "\n");
	out->failed |= !line;
}

static char *title_of(const struct show *sh)
{
	size_t running = 0, failed = 0;
	char now[16] = "";
	time_t t = time(NULL);
	struct tm tm;

	for (size_t i = 0; i < sh->listing.n; i++) {
		const char *state = sh->listing.rows[i].state;

		running += state && strcmp(state, "running") == 0;
		failed += state && strcmp(state, "failed") == 0;
	}
	if (localtime_r(&t, &tm))
		(void)strftime(now, sizeof(now), "%H:%M:%S", &tm);
	return text_format("%s  %s  %zu branches, %zu running, %zu failed  (q: quit)",
			   now, sh->mount.mountpoint, sh->listing.n, running, failed);
}

static void draw(void *ctx, size_t width, size_t lines, struct str *out)
{
	struct list_watch *lw = ctx;
	CLEAN(clean_free) char *title = title_of(lw->sh), *more = NULL;
	CLEAN(table_fini) struct table t;
	size_t rows = lw->sh->listing.n, room = lines > 3 ? lines - 3 : 0;

	make_table(&t, &lw->sh->listing);
	if (lines > 0)
		add_line(out, title, width);
	if (lines < 3)
		return;
	str_add(out, "\n");
	if (rows <= room) {
		table_render(&t, lw->sh->color, width, rows, out);
		return;
	}
	/* the last line says what there was no room for */
	room -= room > 0;
	table_render(&t, lw->sh->color, width, room, out);
	if (lines < 4)
		return;
	more = text_format("... and %zu more", rows - room);
	add_line(out, more, width);
}

static int watch_list(struct show *sh)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct list_watch lw = {.sh = sh, .fetched = LISTING_INIT};
	struct watch_spec spec = {
		.interval_s = sh->watch_s,
		.load = fetch,
		.take = take,
		.draw = draw,
		.ctx = &lw,
	};

	return watch_check(&e) < 0 ? cli_fail(&e) : watch_run(&spec);
}

static int run_list(const struct cli_command *self, int argc, char **argv)
{
	CLEAN(show_fini) struct show sh = SHOW_INIT;
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc = show_args(self, true, argc, argv, &sh);

	if (rc >= 0)
		return rc;
	if (sh.watch_s)
		return watch_list(&sh);
	if (show_load(&sh.mount, &sh.listing, &e) < 0)
		return cli_fail(&e);
	return sh.json ? show_json(&sh) : print_list(&sh);
}

const struct cli_command cmd_list = {
	.name = "list",
	.args = "[MOUNTPOINT] [--json | --watch[=SECONDS]] [--color[=WHEN]]",
	.summary = "List the branches of a mount",
	.help = SHOW_HELP
	"  --json          the branches' status.json files as one array\n"
	"  --watch[=SECONDS]\n"
	"                  fill the terminal, again every 2 seconds, until q is "
	"pressed\n",
	.run = run_list,
};

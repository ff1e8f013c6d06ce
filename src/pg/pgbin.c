/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbin.c - where the Postgres programs are.
 *
 * A directory counts by what its `postgres -V` says, never by its name.  Answers
 * are remembered by the identity of the file, and the directory that was found last,
 * so that a wake-up searches nothing and runs one program only: the server.
 */
#include "pg/pgbin.h"

#include "base/proc.h"
#include "base/text.h"
#include "pg/pgexec.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VERSION_TIMEOUT_MS 10000
#define CACHE_SLOTS 16

/* Where distributions put them, newest name last within a row. */
static const char *const layouts[] = {
	"/usr/lib/postgresql/*/bin", /* Debian, Ubuntu */
	"/usr/pgsql-*/bin",          /* postgresql.org on RHEL */
	"/usr/lib64/pgsql/bin",
	"/usr/lib64/pgsql/postgresql-*/bin", /* RHEL's own, older major */
	"/usr/lib/postgresql[0-9]*/bin",     /* openSUSE */
	"/usr/libexec/postgresql[0-9]*",     /* Alpine */
	"/usr/local/pgsql/bin",
};

struct cached {
	dev_t dev;
	ino_t ino;
	struct timespec mtime;
	int major;
};

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cached cache[CACHE_SLOTS]; /* lock: cache_lock */
static unsigned cache_next;              /* lock: cache_lock */
static int last_major;                   /* lock: cache_lock; 0: none */
static char *last_dir;                   /* lock: cache_lock */

static bool cache_hit(const struct cached *c, const struct stat *st)
{
	return c->major && c->dev == st->st_dev && c->ino == st->st_ino &&
	       c->mtime.tv_sec == st->st_mtim.tv_sec &&
	       c->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

static int cache_find(const struct stat *st)
{
	LOCK_SCOPE(&cache_lock);
	for (size_t i = 0; i < CACHE_SLOTS; i++)
		if (cache_hit(&cache[i], st))
			return cache[i].major;
	return 0;
}

static void cache_add(const struct stat *st, int major)
{
	LOCK_SCOPE(&cache_lock);
	cache[cache_next++ % CACHE_SLOTS] =
		(struct cached){st->st_dev, st->st_ino, st->st_mtim, major};
}

static int ask_version(const char *path)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	CLEAN(clean_free) char *out = NULL;
	char *const argv[] = {(char *)path, (char *)"-V", NULL};
	int rc;

	spec.argv = argv;
	rc = proc_run(&spec, VERSION_TIMEOUT_MS, &out);
	if (rc < 0)
		return rc;
	return rc == 0 && out ? pgexec_parse_banner(out) : -EINVAL;
}

int pgbin_version(const char *bin_dir)
{
	CLEAN(clean_free) char *path = text_format("%s/postgres", bin_dir);
	struct stat st;
	int major;

	if (!path)
		return -ENOMEM;
	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
		return -ENOENT;
	major = cache_find(&st);
	if (major)
		return major;
	major = ask_version(path);
	if (major > 0)
		cache_add(&st, major);
	return major;
}

/* The search for one major version, or for the newest. */
struct search {
	int want; /* 0: newest */
	int best;
	char *best_dir;
	struct str found; /* "14, 15": for the error */
	bool failed;
};

static bool search_done(const struct search *s)
{
	return s->failed || (s->want && s->best == s->want);
}

static void search_note(struct search *s, int major)
{
	char word[16];

	(void)snprintf(word, sizeof(word), "%d", major); /* fits */
	if (s->found.s && strstr(s->found.s, word))
		return;
	str_printf(&s->found, "%s%s", s->found.len ? ", " : "", word);
}

static void search_try(struct search *s, const char *dir)
{
	int major = search_done(s) ? -ECANCELED : pgbin_version(dir);

	if (major <= 0)
		return;
	search_note(s, major);
	if (s->want ? major != s->want : major <= s->best)
		return;
	free(s->best_dir);
	s->best_dir = strdup(dir);
	s->best = major;
	s->failed = !s->best_dir;
}

static void search_layouts(struct search *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		glob_t g;

		if (glob(layouts[i], GLOB_ONLYDIR, NULL, &g) != 0)
			continue;
		for (size_t k = 0; k < g.gl_pathc; k++)
			search_try(s, g.gl_pathv[k]);
		globfree(&g);
	}
}

static void search_path(struct search *s)
{
	const char *env = getenv("PATH");
	CLEAN(clean_free) char *copy = strdup(env ? env : "/usr/bin:/bin");
	char *save = NULL;

	if (!copy) {
		s->failed = true;
		return;
	}
	for (char *d = strtok_r(copy, ":", &save); d; d = strtok_r(NULL, ":", &save))
		if (*d == '/')
			search_try(s, d);
}

static int find_given(const char *bin_dir, int major, char **ret_dir, struct err *e)
{
	int rc = pgbin_version(bin_dir);

	if (rc == -ENOENT || rc == -ENOTDIR || rc == -EACCES)
		return err_set(e, -ENOENT, "no postgres program in '%s'", bin_dir);
	if (rc < 0)
		return err_set(e, rc, "cannot tell the version of '%s/postgres'",
			       bin_dir);
	if (major && rc != major) {
		(void)err_set(e, -ENOENT,
			      "the data is of Postgres %d, but '%s' holds version %d",
			      major, bin_dir, rc);
		return err_hint(e, "set bin_dir to auto, or to the programs of %d",
				major);
	}
	*ret_dir = strdup(bin_dir);
	return *ret_dir ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* The directory that the last search for this major found, if it still holds. */
static char *recall(int major)
{
	CLEAN(clean_free) char *dir = NULL;

	{
		LOCK_SCOPE(&cache_lock);
		if (major && major == last_major)
			dir = strdup(last_dir);
	}
	return dir && pgbin_version(dir) == major ? steal(dir) : NULL;
}

static void remember(int major, const char *dir)
{
	char *copy = strdup(dir);

	if (!copy)
		return; /* the next one searches again */
	LOCK_SCOPE(&cache_lock);
	free(last_dir);
	last_dir = copy;
	last_major = major;
}

static void search_fini(struct search *s)
{
	free(s->best_dir);
	str_fini(&s->found);
}

int pgbin_find(const char *bin_dir, int major, char **ret_dir, struct err *e)
{
	CLEAN(search_fini) struct search s = {.want = major};

	if (bin_dir && strcmp(bin_dir, "auto") != 0)
		return find_given(bin_dir, major, ret_dir, e);
	s.best_dir = recall(major);
	if (s.best_dir) {
		*ret_dir = steal(s.best_dir);
		return 0;
	}
	search_layouts(&s);
	search_path(&s);
	if (s.failed || s.found.failed)
		return err_set(e, -ENOMEM, "out of memory");
	if (s.best_dir) {
		remember(s.best, s.best_dir);
		*ret_dir = steal(s.best_dir);
		return 0;
	}
	if (!major)
		(void)err_set(e, -ENOENT, "no Postgres server programs found");
	else
		(void)err_set(e, -ENOENT,
			      "no server programs of Postgres %d found (found: %s)",
			      major, s.found.s ? s.found.s : "none");
	return err_hint(e, "install the server package, or set bin_dir in [server]");
}

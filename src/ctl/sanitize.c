/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One branch after the other, on a thread of its own, because the SQL may take long:
 *
 *	mkdir: the record says masking, and is answered
 *	the file's text and then VACUUM FULL, in every database, by pg/single.h
 *	the record says masked: who waits is let in
 *
 * What was masked must not be found in what is left of it.  The pages of the parent are
 * in layers below, which nobody reads but through the branch: they are replaced, not
 * hidden.  VACUUM FULL gives every table and index new files without the old rows,
 *ANALYZE new samples of values, and behind a switch of the WAL and two checkpoints no
 *segment is left with images of old pages.
 */
#include "ctl/sanitize.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "ctl/request.h"
#include "pg/single.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define FILE_MAX (16 << 20)

static const char list_sql[] = "SELECT datname FROM pg_catalog.pg_database"
			       " WHERE datallowconn AND NOT datistemplate" SINGLE_END;
static const char clean_sql[] =
	"VACUUM (FULL, ANALYZE)" SINGLE_END "VACUUM (FULL) pg_catalog.pg_statistic, "
	"pg_catalog.pg_statistic_ext_data" SINGLE_END "CHECKPOINT" SINGLE_END
	"SELECT pg_catalog.pg_switch_wal()" SINGLE_END "CHECKPOINT" SINGLE_END;

/* One branch: one that stays, or a copy that another one is to become. */
struct sanitize_copy {
	struct sanitize *s;
	struct request *rq;
	char *path; /* of the SQL */
	char label[SANITIZE_LABEL];
	sanitize_copied copied; /* NULL: the branch stays, or this was called */
	void *copied_ctx;
	int rc;
};

struct sanitize {
	struct control *c;
	struct pool *pool; /* one thread */
	struct single single;
	atomic_bool stops; /* the mount is about to end: nobody answers any more */
	void (*ended)(void *ctx, struct branch *b);
	void *ended_ctx;
};

int sanitize_label(const struct policy *p, char label[static SANITIZE_LABEL],
		   struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	size_t len;
	int rc;

	label[0] = '\0';
	if (!p || !p->sanitize)
		return 0;
	rc = fd_read_regular(AT_FDCWD, p->sanitize, FILE_MAX, &text, &len);
	if (rc < 0)
		return err_set(e, rc,
			       "cannot read '%s', by which policy '%s' masks: %s",
			       p->sanitize, p->name, strerrordesc_np(-rc));
	(void)snprintf(label, SANITIZE_LABEL, "%08lx-%08lx-%zu",
		       crc32_z(0, (const Bytef *)text, len),
		       adler32_z(1, (const Bytef *)text, len), len);
	return 0;
}

void sanitize_on_end(struct sanitize *s, void (*fn)(void *ctx, struct branch *b),
		     void *ctx)
{
	s->ended = fn;
	s->ended_ctx = ctx;
}

static int mask_database(struct sanitize_copy *j, const char *dbname, const char *text)
{
	CLEAN(str_fini) struct str sql = STR_INIT;
	struct err *e = &j->rq->err;
	int rc;

	single_add_command(&sql, text);
	str_add(&sql, clean_sql);
	if (sql.failed)
		return err_set(e, -ENOMEM, "out of memory");
	rc = single_run(&j->s->single, j->s->c->fleet, j->rq->b, dbname, sql.s, NULL,
			e);
	return rc < 0 ? err_wrap(e, rc, "database \"%s\"", dbname) : 0;
}

static int mask(struct sanitize_copy *j)
{
	CLEAN(clean_free) char *text = NULL, *out = NULL;
	struct err *e = &j->rq->err;
	char *cursor, *dbname;
	unsigned n = 0;
	int rc = fd_read_regular(AT_FDCWD, j->path, FILE_MAX, &text, NULL);

	if (rc < 0)
		return err_set(e, rc, "cannot read '%s': %s", j->path,
			       strerrordesc_np(-rc));
	rc = single_run(&j->s->single, j->s->c->fleet, j->rq->b, "template1", list_sql,
			&out, e);
	for (cursor = out; rc == 0 && (dbname = single_next_value(&cursor)); n++)
		rc = mask_database(j, dbname, text);
	if (rc == 0 && n == 0)
		rc = err_set(e, -EIO, "there is no database to mask");
	return rc;
}

static void job_end(struct sanitize_copy *j)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct control *c = j->s->c;

	if (j->rc < 0 && j->copied)
		(void)err_set(&e, j->rc, "%s", err_text(&j->rq->err));
	request_finish(j->rq, j->rc);
	if (j->copied)
		j->copied(j->copied_ctx, j->rc, &e, NULL);
	control_upkeep(c);
	free(j->path);
	free(j);
}

static void log_failure(struct sanitize_copy *j)
{
	struct request *rq = j->rq;

	(void)err_wrap(&rq->err, j->rc,
		       "branch '%s' was discarded, because it could not be masked",
		       rq->subject);
	if (!rq->err.hint)
		(void)err_hint(&rq->err, "whoever runs the mount can put '%s' right",
			       j->path ? j->path : "it");
	log_warn("%s", err_text(&rq->err));
}

/* Those who waited to connect are dropped by now. */
static void discard_job(void *ctx)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct sanitize_copy *j = ctx;
	struct request *rq = j->rq;

	if (j->rc < 0)
		log_failure(j);
	/* nobody was in it, so it does not go to the trash */
	if (registry_discard(rq->c->registry, rq->b, &e) < 0)
		log_error("branch %s: cannot be discarded: %s; nobody can enter it",
			  rq->subject, err_text(&e));
	job_end(j);
}

static void gone(void *ctx, int rc, const struct err *e)
{
	struct sanitize_copy *j = ctx;

	(void)rc; /* it had no server */
	(void)e;
	if (pool_post(j->s->pool, discard_job, j) < 0)
		job_end(j); /* the next mount discards it */
}

void sanitize_drop(struct sanitize_copy *copy)
{
	fleet_want(copy->s->c->fleet, copy->rq->b, PM_WANT_GONE, gone, copy);
}

static void released(void *ctx, int rc, const struct err *e)
{
	(void)rc; /* nothing was asked to run */
	(void)e;
	job_end(ctx);
}

static void job_run(void *ctx)
{
	struct sanitize_copy *j = ctx;
	struct sanitize *s = j->s;
	struct request *rq = j->rq;

	j->rc = mask(j);
	if (j->rc == 0 && j->copied && !atomic_load(&s->stops)) {
		steal(j->copied)(j->copied_ctx, 0, NULL, j);
		return;
	}
	if (j->rc == 0)
		j->rc = j->copied ? -ECANCELED
				  : branch_end_masking(rq->b, j->label, &rq->err);
	if (j->rc < 0 && atomic_load(&s->stops)) {
		job_end(j); /* the next mount discards it */
		return;
	}
	if (j->rc < 0) {
		sanitize_drop(j);
		return;
	}
	if (s->ended)
		s->ended(s->ended_ctx, rq->b);
	log_info("branch %s: masked by %s", rq->subject, j->path);
	if (atomic_load(&s->stops)) {
		job_end(j);
		return;
	}
	fleet_release(s->c->fleet, rq->b, true, false, released, j);
}

/* From here on whoever connects waits. */
static void held(void *ctx, int rc, const struct err *e)
{
	struct sanitize_copy *j = ctx;

	if (rc == 0)
		rc = pool_post(j->s->pool, job_run, j);
	if (rc == 0)
		return;
	j->rc = err_set(&j->rq->err, rc, "%s", e && e->msg ? e->msg : "out of memory");
	job_end(j);
}

static void finished(void *ctx, int rc, struct branch *b)
{
	(void)ctx; /* nobody waits for the request itself */
	(void)rc;
	(void)b;
}

static void begin(struct sanitize *s, const struct caller *who, const struct policy *p,
		  struct branch *b, struct sanitize_copy *j)
{
	struct request *rq = request_new(s->c, who, "mask", b, finished, NULL);
	int rc = -ENOMEM;

	if (!rq) {
		/* nobody can enter it; the next mount discards it */
		if (j->copied)
			j->copied(j->copied_ctx, -ENOMEM, NULL, NULL);
		free(j);
		return;
	}
	j->s = s;
	j->rq = rq;
	request_value(rq, "%s", p->sanitize);
	j->path = strdup(p->sanitize);
	if (j->path)
		rc = request_claim(rq);
	if (rc == 0)
		rc = request_record(rq);
	if (rc == 0) {
		fleet_want(s->c->fleet, b, PM_WANT_HELD, held, j);
		return;
	}
	j->rc = rc;
	sanitize_drop(j);
}

void sanitize_begin(struct sanitize *s, const struct caller *who,
		    const struct policy *p, const char *label, struct branch *b)
{
	sanitize_begin_copy(s, who, p, label, b, NULL, NULL);
}

void sanitize_begin_copy(struct sanitize *s, const struct caller *who,
			 const struct policy *p, const char *label, struct branch *b,
			 sanitize_copied fn, void *ctx)
{
	struct sanitize_copy *j = calloc(1, sizeof(*j));

	if (!j) {
		if (fn)
			fn(ctx, -ENOMEM, NULL, NULL);
		return; /* as above */
	}
	(void)snprintf(j->label, sizeof(j->label), "%s", label);
	j->copied = fn;
	j->copied_ctx = ctx;
	begin(s, who, p, b, j);
}

static int discard_leftovers(struct control *c)
{
	struct branch **list;
	int rc = registry_list(c->registry, &list);

	if (rc < 0)
		return rc;
	for (struct branch **b = list; *b; b++) {
		CLEAN(err_fini) struct err e = ERR_INIT;
		struct branch_info info;

		branch_info(*b, &info);
		if (!info.masking)
			continue;
		if (registry_discard(c->registry, *b, &e) < 0)
			log_error("branch %s: was being masked when the last mount "
				  "ended, "
				  "and cannot be discarded: %s",
				  info.name, err_text(&e));
		else
			log_warn("branch %s: discarded, because it was being masked "
				 "when "
				 "the last mount ended",
				 info.name);
	}
	branch_list_free(list);
	return 0;
}

int sanitize_new(struct control *c, struct sanitize **ret_sanitize)
{
	struct sanitize *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->c = c;
	single_init(&s->single);
	rc = discard_leftovers(c);
	if (rc == 0)
		rc = pool_new(1, &s->pool);
	if (rc < 0) {
		(void)sanitize_free(s); /* returns NULL */
		return rc;
	}
	*ret_sanitize = s;
	return 0;
}

void sanitize_stop(struct sanitize *s)
{
	atomic_store(&s->stops, true);
	single_stop(&s->single);
}

void sanitize_drain(struct sanitize *s)
{
	if (s->pool)
		sanitize_stop(s);
	s->pool = pool_free(s->pool);
}

struct sanitize *sanitize_free(struct sanitize *s)
{
	if (!s)
		return NULL;
	sanitize_drain(s);
	single_fini(&s->single);
	free(s);
	return NULL;
}

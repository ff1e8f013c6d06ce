/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint.c - taking, dropping and renaming checkpoints.
 *
 * One is taken by the freeze that makes a branch (registry.c), and then its record is
 * durable; a crash between leaves a branch that is one layer deeper, and nothing else.
 * If nothing was written since the last freeze, there is only the record.
 *
 * The record is branches/NO@SEQ.ini, with the name inside: so a rename is one file
 * replaced, and the branch may be renamed, discarded and brought back without its
 * checkpoints being touched.  A release that knows no checkpoints takes these files for
 * records that lost their names, and removes no layer.
 *
 * In memory they are in a set for each branch number.  A checkpoint is a user of the
 * layer that it stands on, as a branch is.
 */
#include "store/checkpoint.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "store/checkpoint_priv.h"

#include <stdio.h>
#include <string.h>

void checkpoint_record_name(uint32_t no, uint32_t seq, char buf[static TRASH_NAME_MAX])
{
	(void)snprintf(buf, TRASH_NAME_MAX, "%u@%u", no, seq);
}

bool checkpoint_record_parse(const char *name, uint32_t *ret_no, uint32_t *ret_seq)
{
	CLEAN(clean_free) char *copy = strdup(name);
	char *at = copy ? strchr(copy, '@') : NULL, again[TRASH_NAME_MAX];
	uint64_t no, seq;

	if (!at)
		return false;
	*at = '\0';
	if (text_parse_u64(copy, 10, UINT32_MAX, &no) < 0 ||
	    text_parse_u64(at + 1, 10, CHECKPOINT_SEQ_MAX, &seq) < 0)
		return false;
	checkpoint_record_name((uint32_t)no, (uint32_t)seq, again);
	if (strcmp(again, name) != 0)
		return false;
	*ret_no = (uint32_t)no;
	*ret_seq = (uint32_t)seq;
	return true;
}

/* --- the sets --- */

struct checkpoint_set *checkpoints_of_locked(struct registry *r, uint32_t no)
{
	struct checkpoint_set *s = NULL;

	HASH_FIND(hh, r->checkpoints, &no, sizeof(no), s);
	return s;
}

void checkpoints_count_locked(struct registry *r, uint32_t no, unsigned *ret_named,
			      unsigned *ret_others)
{
	const struct checkpoint_set *s = checkpoints_of_locked(r, no);
	unsigned named = 0;

	for (size_t i = 0; s && i < s->n; i++)
		named += s->v[i]->m.kind == CHECKPOINT_NAMED;
	*ret_named = named;
	*ret_others = s ? (unsigned)s->n - named : 0;
}

static struct checkpoint_set *make_set_locked(struct registry *r, uint32_t no)
{
	struct checkpoint_set *s = checkpoints_of_locked(r, no);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->no = no;
	s->next_seq = 1;
	HASH_ADD(hh, r->checkpoints, no, sizeof(s->no), s);
	if (!s->hh.tbl) {
		free(s);
		return NULL;
	}
	return s;
}

int checkpoint_note_seq(struct registry *r, uint32_t no, uint32_t seq)
{
	struct checkpoint_set *s;

	WRITE_SCOPE(&r->table);
	s = make_set_locked(r, no);
	if (s && seq >= s->next_seq)
		s->next_seq = seq + 1;
	return s ? 0 : -ENOMEM;
}

int checkpoint_add(struct registry *r, const struct checkpoint_meta *m,
		   struct layer *base)
{
	struct checkpoint *ck = calloc(1, sizeof(*ck)), **v;
	struct checkpoint_set *s;
	size_t at;

	if (!ck)
		return -ENOMEM;
	WRITE_SCOPE(&r->table);
	s = make_set_locked(r, m->branch_no);
	v = s ? realloc(s->v, (s->n + 1) * sizeof(*v)) : NULL; // NOLINT
	if (!v) {
		free(ck);
		return -ENOMEM;
	}
	s->v = v;
	ck->m = *m;
	ck->layer = layer_get(base);
	atomic_fetch_add(&base->users, 1);
	for (at = s->n; at > 0 && v[at - 1]->m.seq > m->seq; at--)
		v[at] = v[at - 1];
	v[at] = ck;
	s->n++;
	if (m->seq >= s->next_seq)
		s->next_seq = m->seq + 1;
	return 0;
}

struct checkpoint *checkpoint_by_seq_locked(struct registry *r, uint32_t no,
					    uint32_t seq)
{
	struct checkpoint_set *s = checkpoints_of_locked(r, no);

	for (size_t i = 0; s && i < s->n; i++)
		if (s->v[i]->m.seq == seq)
			return s->v[i];
	return NULL;
}

struct checkpoint *checkpoint_by_name_locked(struct registry *r, uint32_t no,
					     const char *name)
{
	struct checkpoint_set *s = checkpoints_of_locked(r, no);

	for (size_t i = 0; s && i < s->n; i++)
		if (strcmp(s->v[i]->m.name, name) == 0)
			return s->v[i];
	return NULL;
}

struct checkpoint *checkpoint_seq(struct registry *r, uint32_t no, uint32_t seq)
{
	READ_SCOPE(&r->table);
	return checkpoint_by_seq_locked(r, no, seq);
}

/* Out of memory's tables; the record is gone. */
static void forget(struct registry *r, struct checkpoint *ck)
{
	{
		struct checkpoint_set *s;
		size_t at = 0;

		WRITE_SCOPE(&r->table);
		s = checkpoints_of_locked(r, ck->m.branch_no);
		while (s->v[at] != ck)
			at++;
		s->n--;
		memmove(s->v + at, s->v + at + 1, (s->n - at) * sizeof(*s->v));
	}
	layer_release(r, ck->layer);
	layer_put(ck->layer);
	free(ck);
}

void checkpoints_free(struct registry *r)
{
	struct checkpoint_set *s, *next;

	HASH_ITER(hh, r->checkpoints, s, next)
	{
		HASH_DEL(r->checkpoints, s);
		for (size_t i = 0; i < s->n; i++) {
			layer_put(s->v[i]->layer);
			free(s->v[i]);
		}
		free(s->v);
		free(s);
	}
}

/* --- their records --- */

static int save(struct registry *r, const struct checkpoint_meta *m)
{
	CLEAN(clean_free) char *text = checkpoint_meta_encode(m);
	char name[TRASH_NAME_MAX];

	checkpoint_record_name(m->branch_no, m->seq, name);
	return text ? record_write(r, name, text) : -ENOMEM;
}

static int drop_locked(struct registry *r, struct checkpoint *ck)
{
	CLEAN(clean_free) char *text = checkpoint_meta_encode(&ck->m);
	char name[TRASH_NAME_MAX];
	int rc = text ? records_failed(r) : -ENOMEM;

	checkpoint_record_name(ck->m.branch_no, ck->m.seq, name);
	if (rc == 0)
		rc = record_unlink(r, name, text);
	FAULT_POINT("checkpoint.dropped");
	if (rc == 0)
		forget(r, ck);
	return rc;
}

/* --- taking one --- */

static int check_name(struct registry *r, uint32_t no, const char *name, struct err *e)
{
	bool found;
	int rc = text_check_name(name);

	if (rc == -ENAMETOOLONG)
		return err_set(e, rc, "checkpoint name '%s' is longer than %d bytes",
			       name, NAME_LEN_MAX);
	if (rc < 0) {
		(void)err_set(e, rc, "'%s' is no name for a checkpoint", name);
		(void)err_hint(
			e, "a letter or digit, then letters, digits, '_', '-', '.'");
		return rc;
	}
	{
		READ_SCOPE(&r->table);
		found = checkpoint_by_name_locked(r, no, name) != NULL;
	}
	return found ? err_set(e, -EEXIST, "there is a checkpoint '%s' already", name)
		     : 0;
}

/* PREFIX-20261122T100000Z; in the same second PREFIX-20261122T100000Z-2. */
static void choose_name(struct registry *r, uint32_t no, const char *prefix, time_t now,
			char buf[static NAME_LEN_MAX + 1])
{
	char when[21], digits[17];
	size_t n = 0;

	text_format_time(now, when);
	for (const char *p = when; *p && n < sizeof(digits) - 1; p++)
		if (*p != '-' && *p != ':')
			digits[n++] = *p;
	digits[n] = '\0';
	(void)snprintf(buf, NAME_LEN_MAX + 1, "%s-%s", prefix, digits);
	READ_SCOPE(&r->table);
	for (unsigned i = 2; checkpoint_by_name_locked(r, no, buf); i++)
		(void)snprintf(buf, NAME_LEN_MAX + 1, "%s-%s-%u", prefix, digits, i);
}

static struct checkpoint *newest(struct registry *r, uint32_t no, uint32_t *ret_seq)
{
	struct checkpoint_set *s;

	READ_SCOPE(&r->table);
	s = checkpoints_of_locked(r, no);
	*ret_seq = s ? s->next_seq : 1;
	return s && s->n > 0 ? s->v[s->n - 1] : NULL;
}

/* Is what the branch holds something else than what it, or its last checkpoint, held?
 */
static bool has_changed(struct registry *r, struct branch *b,
			const struct checkpoint *last)
{
	if (!registry_top_is_empty(r, b))
		return true;
	return last ? b->top->parent != last->layer : !b->top->fresh;
}

bool checkpoint_is_wanted(struct registry *r, struct branch *b)
{
	uint32_t seq;

	LOCK_SCOPE(&r->change);
	return !atomic_load(&b->discarded) && has_changed(r, b, newest(r, b->no, &seq));
}

int checkpoint_take_locked(struct registry *r, struct branch *b,
			   const struct checkpoint_spec *spec,
			   struct checkpoint_meta *ret_meta, struct err *e)
{
	struct checkpoint_meta m = {.branch_no = b->no,
				    .kind = spec->kind,
				    .taken = time(NULL),
				    .prepared = b->meta.prepared,
				    .masking = b->meta.masking,
				    .owner = b->meta.owner,
				    .group = b->meta.group};
	const struct checkpoint *last = newest(r, b->no, &m.seq);
	struct layer *base = NULL;
	int rc = 0;

	memcpy(m.masked, b->meta.masked, sizeof(m.masked));
	memcpy(m.make_role, b->meta.make_role, sizeof(m.make_role));
	if (spec->if_changed && !has_changed(r, b, last))
		return -EALREADY;
	if (m.seq > CHECKPOINT_SEQ_MAX)
		return err_set(e, -ENOSPC, "branch '%s' had too many checkpoints",
			       b->name);
	if (spec->name)
		(void)snprintf(m.name, sizeof(m.name), "%s", spec->name);
	else
		choose_name(r, b->no, spec->prefix, (time_t)m.taken, m.name);
	(void)snprintf(m.branch, sizeof(m.branch), "%s", b->name);
	rc = registry_base_of(r, b, &base, e);
	if (rc < 0)
		return rc;
	m.base = base->id;
	rc = checkpoint_note_seq(r, b->no, m.seq);
	if (rc == 0)
		rc = save(r, &m);
	FAULT_POINT("checkpoint.saved");
	if (rc == 0)
		rc = checkpoint_add(r, &m, base);
	if (rc < 0) {
		char name[TRASH_NAME_MAX];

		checkpoint_record_name(m.branch_no, m.seq, name);
		/* it may be there; where it stays, so does the layer that it names */
		if (record_undo(r, name) < 0)
			atomic_fetch_add(&base->users, 1);
		return err_set(e, rc, "cannot write the record of checkpoint '%s': %s",
			       m.name, strerror(-rc));
	}
	*ret_meta = m;
	return 0;
}

int checkpoint_take(struct registry *r, struct branch *b,
		    const struct checkpoint_spec *spec,
		    struct checkpoint_info *ret_info, struct err *e)
{
	struct checkpoint_meta m;
	int rc = 0;

	LOCK_SCOPE(&r->change);
	if (atomic_load(&b->discarded))
		return err_set(e, -ENOENT, "branch '%s' is gone", b->name);
	if (spec->name)
		rc = check_name(r, b->no, spec->name, e);
	if (rc == 0)
		rc = checkpoint_take_locked(r, b, spec, &m, e);
	if (rc < 0)
		return rc;
	holdings_recount(r, b);
	READ_SCOPE(&r->table);
	checkpoint_fill_info_locked(r, &m, ret_info);
	return 0;
}

/* --- changing them --- */

static int no_checkpoint(struct err *e)
{
	return err_set(e, -ENOENT, "the checkpoint is gone");
}

/* The branch that is alive under this number, or NULL; a reference. */
static void recount_no(struct registry *r, uint32_t no)
{
	struct branch *b = registry_find_no(r, no);

	if (!b)
		return;
	holdings_recount(r, b);
	branch_put(b);
}

int checkpoint_drop(struct registry *r, uint32_t no, uint32_t seq, struct err *e)
{
	struct checkpoint *ck;
	int rc;

	LOCK_SCOPE(&r->change);
	ck = checkpoint_seq(r, no, seq);
	if (!ck)
		return no_checkpoint(e);
	rc = drop_locked(r, ck);
	if (rc < 0)
		return err_set(e, rc, "cannot remove the record of the checkpoint: %s",
			       strerror(-rc));
	recount_no(r, no);
	return 0;
}

int checkpoint_rename(struct registry *r, uint32_t no, uint32_t seq,
		      const char *newname, struct err *e)
{
	struct checkpoint_meta m;
	struct checkpoint *ck;
	int rc;

	LOCK_SCOPE(&r->change);
	ck = checkpoint_seq(r, no, seq);
	if (!ck)
		return no_checkpoint(e);
	rc = check_name(r, no, newname, e);
	if (rc < 0)
		return rc;
	m = ck->m;
	(void)snprintf(m.name, sizeof(m.name), "%s", newname);
	m.kind = CHECKPOINT_NAMED;
	rc = save(r, &m);
	FAULT_POINT("checkpoint.renamed");
	if (rc < 0)
		return err_set(e, rc, "cannot write the record of checkpoint '%s': %s",
			       newname, strerror(-rc));
	WRITE_SCOPE(&r->table);
	ck->m = m;
	return 0;
}

/* --- when a branch goes --- */

void checkpoints_before_discard(struct registry *r, struct branch *b)
{
	struct checkpoint_set *s;

	{
		READ_SCOPE(&r->table);
		s = checkpoints_of_locked(r, b->no);
	}
	/* changed by holders of registry->change only */
	for (size_t i = 0; s && i < s->n; i++) {
		struct checkpoint_meta m = s->v[i]->m;

		if (m.kind != CHECKPOINT_NAMED ||
		    (strcmp(m.branch, b->name) == 0 && m.owner == b->meta.owner &&
		     m.group == b->meta.group))
			continue;
		memcpy(m.branch, b->name, sizeof(m.branch));
		m.owner = b->meta.owner;
		m.group = b->meta.group;
		if (save(r, &m) < 0) {
			log_warn("checkpoint %s:%s: cannot write its branch's last "
				 "name into its record; it is found under the old one",
				 b->name, m.name);
			continue;
		}
		WRITE_SCOPE(&r->table);
		s->v[i]->m = m;
	}
}

/* Its record's file; true if it is gone, though not durably. */
static bool unlink_record(struct registry *r, const struct checkpoint *ck)
{
	char name[TRASH_NAME_MAX];
	int rc;

	checkpoint_record_name(ck->m.branch_no, ck->m.seq, name);
	rc = record_undo(r, name);
	if (rc < 0)
		log_warn("checkpoint %s:%s: cannot remove its record: %s; trying again "
			 "at the next mount",
			 ck->m.branch, ck->m.name, strerror(-rc));
	return rc == 0;
}

void checkpoints_drop_unnamed(struct registry *r, uint32_t no)
{
	struct checkpoint **gone = NULL;
	struct checkpoint_set *s;
	size_t n = 0;

	{
		READ_SCOPE(&r->table);
		s = checkpoints_of_locked(r, no);
	}
	if (!s || s->n == 0)
		return;
	gone = calloc(s->n, sizeof(struct checkpoint *));
	for (size_t i = 0; gone && i < s->n; i++)
		if (s->v[i]->m.kind != CHECKPOINT_NAMED && unlink_record(r, s->v[i]))
			gone[n++] = s->v[i];
	/* one fsync for all; before it nothing that they name may go */
	if (n > 0 && records_sync(r) < 0)
		n = 0;
	FAULT_POINT("checkpoint.unnamed-dropped");
	while (n > 0)
		forget(r, gone[--n]);
	free(gone);
}

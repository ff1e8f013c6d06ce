/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A table of fixed size, searched from one end to the other: failures are rare
 * and a thousand comparisons cost less than the message's formatting.
 */
#include "ctl/errors.h"

#include "base/text.h"

#include <string.h>

struct error_entry {
	char *text; /* NULL: free */
	uid_t uid;
	uint64_t order; /* higher is newer */
};

struct errors {
	pthread_mutex_t lock;
	uint64_t next_order;                    /* lock: lock */
	struct error_entry entries[ERRORS_MAX]; /* lock: lock */
};

int errors_new(struct errors **ret_errors)
{
	struct errors *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	(void)pthread_mutex_init(&t->lock, NULL); /* cannot fail with NULL */
	*ret_errors = t;
	return 0;
}

struct errors *errors_free(struct errors *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < ERRORS_MAX; i++)
		free(t->entries[i].text);
	(void)pthread_mutex_destroy(&t->lock); /* nobody holds it */
	free(t);
	return NULL;
}

/* Names come from clients: a line break in one must not forge a second line. */
static void add_line(struct str *out, const char *prefix, const char *s)
{
	str_add(out, prefix);
	for (; *s; s++) {
		unsigned char ch = (unsigned char)*s;

		str_addn(out, ch < 0x20 || ch == 0x7f ? "?" : s, 1);
	}
	str_add(out, "\n");
}

static char *error_format(const struct err *e, time_t now)
{
	struct str out = STR_INIT;
	char when[21];

	text_format_time(now, when);
	add_line(&out, "", err_text(e));
	if (e->hint)
		add_line(&out, "hint: ", e->hint);
	add_line(&out, "time: ", when);
	return str_steal(&out);
}

static struct error_entry *entry_find_locked(struct errors *t, uid_t uid)
{
	for (size_t i = 0; i < ERRORS_MAX; i++) {
		if (t->entries[i].text && t->entries[i].uid == uid)
			return &t->entries[i];
	}
	return NULL;
}

/* An unused entry, else the one that was written longest ago. */
static struct error_entry *entry_reuse_locked(struct errors *t)
{
	struct error_entry *oldest = &t->entries[0];

	for (size_t i = 0; i < ERRORS_MAX; i++) {
		if (!t->entries[i].text)
			return &t->entries[i];
		if (t->entries[i].order < oldest->order)
			oldest = &t->entries[i];
	}
	return oldest;
}

void errors_note(struct errors *t, uid_t uid, const struct err *e, time_t now)
{
	char *text = error_format(e, now);
	struct error_entry *entry;

	if (!text)
		return;
	LOCK_SCOPE(&t->lock);
	entry = entry_find_locked(t, uid);
	if (!entry)
		entry = entry_reuse_locked(t);
	free(entry->text);
	*entry = (struct error_entry){text, uid, t->next_order++};
}

char *errors_text(struct errors *t, uid_t uid)
{
	struct error_entry *entry;

	LOCK_SCOPE(&t->lock);
	entry = entry_find_locked(t, uid);
	return strdup(entry ? entry->text : "");
}

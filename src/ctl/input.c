/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input.c - the little languages of mkdir and of control files.
 */
#include "ctl/input.h"

#include "base/text.h"

#include <string.h>

/* The longest word that is looked at; no value is near it. */
#define WORD_MAX 64

static int refuse_spec(const char *what, const char *name, struct err *e)
{
	(void)err_set(e, -EINVAL, "'%s' is no name of a %s", name, what);
	return err_hint(e, "the form is mkdir NAME, mkdir NAME@PARENT or mkdir "
			   "NAME@PARENT:CHECKPOINT");
}

int input_parse_spec(const char *spec, char **ret_name, char **ret_parent,
		     char **ret_checkpoint, struct err *e)
{
	const char *at = strchr(spec, '@');
	const char *colon = at ? strchr(at, ':') : NULL;
	CLEAN(clean_free) char *name = NULL;
	CLEAN(clean_free) char *parent = NULL;
	CLEAN(clean_free) char *checkpoint = NULL;
	time_t t;

	name = at ? strndup(spec, (size_t)(at - spec)) : strdup(spec);
	if (at)
		parent = colon ? strndup(at + 1, (size_t)(colon - at - 1))
			       : strdup(at + 1);
	checkpoint = colon ? strdup(colon + 1) : NULL;
	if (!name || (at && !parent) || (colon && !checkpoint))
		return err_set(e, -ENOMEM, "out of memory");
	if (parent && text_check_name(parent) < 0)
		return refuse_spec("parent branch", parent, e);
	if (checkpoint && text_parse_time(checkpoint, &t) == 0) {
		(void)err_set(e, -EINVAL,
			      "'%s' asks for a time, which is not built yet",
			      checkpoint);
		return err_hint(e,
				"mkdir NAME@%s:CHECKPOINT branches from a checkpoint",
				parent);
	}
	if (checkpoint && text_check_name(checkpoint) < 0)
		return refuse_spec("checkpoint", checkpoint, e);
	*ret_name = steal(name);
	*ret_parent = steal(parent);
	*ret_checkpoint = steal(checkpoint);
	return 0;
}

int input_parse_word(const char *buf, size_t size, char **ret_word)
{
	while (size && (buf[size - 1] == '\n' || buf[size - 1] == ' '))
		size--;
	if (!size || size > WORD_MAX || memchr(buf, '\0', size))
		return -EINVAL;
	*ret_word = strndup(buf, size);
	return *ret_word ? 0 : -ENOMEM;
}

int input_parse_state(const char *word, enum pm_want *ret_want, struct err *e)
{
	if (strcmp(word, "running") == 0) {
		*ret_want = PM_WANT_RUNNING;
		return 0;
	}
	if (strcmp(word, "stopped") == 0) {
		*ret_want = PM_WANT_STOPPED;
		return 0;
	}
	(void)err_set(e, -EINVAL, "'%s' is no state to ask for", word);
	return err_hint(e, "write running or stopped");
}

/* rc: what parsing said; for a word that could not be used. */
static int refuse_expires(const char *word, int rc, struct err *e)
{
	if (rc == -ERANGE)
		(void)err_set(e, -EINVAL, "'%s' is too far away", word);
	else
		(void)err_set(e, -EINVAL, "'%s' is no time to expire at", word);
	return err_hint(e, "write a time from now such as 2h, 90m or 7d, an RFC 3339 "
			   "time such as 2026-11-22T10:00:00Z, or never");
}

int input_parse_expires(const char *word, time_t now, time_t *ret_expires,
			struct err *e)
{
	uint64_t seconds = 0;
	time_t t = 0;
	int rc;

	if (strcmp(word, "never") == 0) {
		*ret_expires = 0;
		return 0;
	}
	rc = text_parse_duration(word, &seconds);
	if (rc == 0 && (now > EXPIRES_MAX || seconds > (uint64_t)(EXPIRES_MAX - now)))
		rc = -ERANGE;
	if (rc == 0)
		t = now + (time_t)seconds;
	else if (rc == -EINVAL)
		rc = text_parse_time(word, &t);
	if (rc == 0 && t > EXPIRES_MAX)
		rc = -ERANGE; /* by its offset */
	if (rc < 0)
		return refuse_expires(word, rc, e);
	if (t > now) {
		*ret_expires = t;
		return 0;
	}
	(void)err_set(e, -EINVAL, "'%s' is not in the future", word);
	return err_hint(e, "rmdir discards a branch at once");
}

int input_parse_protected(const char *word, bool *ret_on, struct err *e)
{
	if (strcmp(word, "1") == 0 || strcmp(word, "0") == 0) {
		*ret_on = word[0] == '1';
		return 0;
	}
	(void)err_set(e, -EINVAL, "'%s' does not say whether to protect", word);
	return err_hint(e, "write 1 to protect the branch, 0 to lift it");
}

static int parse_upkeep_word(const char *word, size_t len, struct input_upkeep *ask)
{
	static const char unused[] = "unused=";
	char days[16];
	uint64_t n;

	if (len == strlen("apply") && memcmp(word, "apply", len) == 0 && !ask->apply) {
		ask->apply = true;
		return 0;
	}
	if (ask->doctor || ask->unused_days || len <= strlen(unused) ||
	    len - strlen(unused) >= sizeof(days) ||
	    memcmp(word, unused, strlen(unused)) != 0)
		return -EINVAL;
	memcpy(days, word + strlen(unused), len - strlen(unused));
	days[len - strlen(unused)] = '\0';
	if (text_parse_u64(days, 10, UPKEEP_DAYS_MAX, &n) < 0 || n == 0)
		return -EINVAL;
	ask->unused_days = (uint32_t)n;
	return 0;
}

int input_parse_upkeep(const char *text, struct input_upkeep *ret_ask, struct err *e)
{
	struct input_upkeep ask = {.doctor = false};
	size_t len = strcspn(text, " ");
	const char *word = text;
	int rc = 0;

	if (len == strlen("doctor") && memcmp(word, "doctor", len) == 0)
		ask.doctor = true;
	else if (len != strlen("gc") || memcmp(word, "gc", len) != 0)
		rc = -EINVAL;
	while (rc == 0 && word[len]) {
		word += len + 1;
		len = strcspn(word, " ");
		rc = parse_upkeep_word(word, len, &ask);
	}
	if (rc == 0) {
		*ret_ask = ask;
		return 0;
	}
	(void)err_set(e, -EINVAL, "'%s' is nothing to ask here", text);
	return err_hint(e,
			"write gc or doctor, behind it apply to have it done, and "
			"behind gc unused=DAYS for branches that nobody used so long");
}

bool input_is_adopt(const char *text)
{
	return strncmp(text, "adopt ", strlen("adopt ")) == 0;
}

int input_parse_adopt(const char *text, struct input_adopt *ret_ask, struct err *e)
{
	const char *dir = input_is_adopt(text) ? text + strlen("adopt ") : "";
	size_t dir_len = strcspn(dir, " "), len;
	const char *name = dir + dir_len + (dir[dir_len] == ' ');

	len = strlen(name);
	if (dir_len == 0 || len == 0 || strchr(name, ' ') ||
	    dir_len >= ADOPT_WORD_MAX || len >= ADOPT_WORD_MAX) {
		(void)err_set(e, -EINVAL, "'%s' does not say what to adopt", text);
		return err_hint(e, "adopt DIR NAME, as pgbranchfs receive writes it");
	}
	memcpy(ret_ask->dir, dir, dir_len);
	ret_ask->dir[dir_len] = '\0';
	memcpy(ret_ask->name, name, len + 1);
	return 0;
}

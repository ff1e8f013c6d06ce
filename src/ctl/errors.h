/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * errors.h - the last failed request of each uid, as the text of .error.
 * Bounded: the uid that failed longest ago goes first.  Thread-safe.
 */
#ifndef CTL_ERRORS_H
#define CTL_ERRORS_H

#include "base/err.h"

#include <sys/types.h>
#include <time.h>

#define ERRORS_MAX 1024

struct errors;

int errors_new(struct errors **ret_errors) MUST_CHECK;
struct errors *errors_free(struct errors *t); /* NULL is fine; returns NULL */

/* Keeps what e says as the last error of uid; out of memory keeps the old one. */
void errors_note(struct errors *t, uid_t uid, const struct err *e, time_t now);
/* Heap string, "" when nothing failed; NULL when out of memory. */
char *errors_text(struct errors *t, uid_t uid);

#endif

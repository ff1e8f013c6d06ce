/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * listing.h - what the status files of a mount say, read as anybody else would.
 */
#ifndef CLI_LISTING_H
#define CLI_LISTING_H

#include "base/err.h"
#include "base/text.h"

#include <stdint.h>
#include <time.h>

struct listing_row {
	char *name;
	char *state, *parent, *owner; /* NULL: we may not look into this branch */
	bool parent_gone;
	time_t created, last_active; /* 0: unknown */
	uint64_t depth, bytes;
};

struct listing {
	struct listing_row *rows; /* sorted by name */
	size_t n;
};

#define LISTING_INIT                                                                   \
	{                                                                              \
		NULL, 0                                                                \
	}

/* Reads NAME/status of every branch of the mount. */
int listing_load(const char *mountpoint, struct listing *ret_listing,
		 struct err *e) MUST_CHECK;
void listing_fini(struct listing *l);
/* Appends the status.json of all rows that may be read, as one JSON array. */
int listing_json(const char *mountpoint, const struct listing *l, struct str *out,
		 struct err *e) MUST_CHECK;

/* "812", "1.5M": at most 5 characters. */
void listing_size(uint64_t bytes, char buf[static 8]);
/* "42s", "3h12m", "5d": at most 7 characters. */
void listing_age(time_t seconds, char buf[static 24]);

#endif

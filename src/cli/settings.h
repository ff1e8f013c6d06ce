/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * settings.h - the configuration file that a new store gets.
 */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include "base/err.h"

/* What init's options say; NULL: the default. */
struct settings_given {
	const char *superuser, *bin_dir, *run_as;
};

/* Refuses values that the file could not hold. */
int settings_check(const struct settings_given *given, struct err *e) MUST_CHECK;
/*
 * Writes pgbranchfs.conf into the store, unless there is one: every setting with
 * its default, commented, and those given for real.
 */
int settings_write(int storefd, const struct settings_given *given,
		   struct err *e) MUST_CHECK;

#endif

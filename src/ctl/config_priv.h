/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config_priv.h - what config.c, which knows the settings, gives config_read.c.
 */
#ifndef CTL_CONFIG_PRIV_H
#define CTL_CONFIG_PRIV_H

#include "ctl/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_LINE_MAX 198 /* what every inih since version 31 takes whole */

/* Sets what [section] has, but for policies, once: *seen starts as 0. */
int config_set(struct config *c, uint64_t *seen, const char *section, const char *name,
	       const char *value, struct err *e) MUST_CHECK;
bool config_has_section(const char *name, size_t len);

#endif

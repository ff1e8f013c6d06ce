/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rolescan.h - whether a cluster has a role, told from its files: mkdir must not wait
 * for a server.
 */
#ifndef PG_ROLESCAN_H
#define PG_ROLESCAN_H

#include "store/overlay.h"

#include <stdbool.h>
#include <stdint.h>

struct role_facts {
	bool powerful; /* superuser, or may make itself one that reads files */
	bool can_login;
};

/*
 * 0; -ENOENT: there is none of this name; -EAGAIN: the files do not tell, as the
 * cluster was not shut down cleanly; or another failure.
 */
int rolescan(struct overlay *data, const char *role,
	     struct role_facts *ret_facts) MUST_CHECK;

#define ROLESCAN_PAGE 8192
/* Is this transaction committed?  -EAGAIN: cannot be told. */
typedef int (*rolescan_committed)(void *ctx, uint32_t xid);
/*
 * The pure half: looks for a live row of the name in one page of pg_authid.  1: found,
 * 0: not here, -EAGAIN: a row cannot be told live from dead, -EBADMSG: no such page.
 */
int rolescan_page(const uint8_t *page, const char *role, rolescan_committed committed,
		  void *ctx, struct role_facts *ret_facts) MUST_CHECK;

#endif

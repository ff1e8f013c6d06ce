/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A page of pg_authid, which the branch's superuser can write. */
#include "fuzz.h"
#include "pg/rolescan.h"

#include <errno.h>

static int committed(void *ctx, uint32_t xid)
{
	(void)ctx;
	return xid % 3 == 2 ? -EAGAIN : (int)(xid % 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *page = calloc(1, ROLESCAN_PAGE);
	struct role_facts f = {false, false};
	int rc;

	MUST(page);
	memcpy(page, data, size < ROLESCAN_PAGE ? size : ROLESCAN_PAGE);
	rc = rolescan_page(page, "app_rw", committed, NULL, &f);
	MUST(rc == 0 || rc == 1 || rc == -EAGAIN || rc == -EBADMSG);
	free(page);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * subscan.h - whether a cluster has subscriptions, told from its files alone.
 *
 * Most have none, and then a new branch needs no clean-up, no connection for it
 * and no ban on logical workers (prepare.h).  Every doubt reads as "may have some".
 */
#ifndef PG_SUBSCAN_H
#define PG_SUBSCAN_H

#include "store/overlay.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Has pg_subscription never held a row, as far as files tell?  They tell all after a
 * clean shutdown and after recovery, whose last step is a checkpoint, and until
 * somebody may connect.
 */
bool subscan_none(struct overlay *data);
/* Was the cluster shut down cleanly as a primary, and is not a backup? */
bool subscan_was_clean(struct overlay *data);

/* Pure halves: the file of a mapped catalog in pg_filenode.map; 0: not told. */
uint32_t subscan_mapped_file(const void *map, size_t len, uint32_t oid);
/* Does pg_control say "shut down"? */
bool subscan_control_clean(const void *control, size_t len);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rotation.h - which automatic checkpoints stay, as in a rotation of backups: many that
 * are new, few that are old.  Pure.
 */
#ifndef CTL_ROTATION_H
#define CTL_ROTATION_H

#include <stddef.h>
#include <time.h>

/*
 * Of n that were taken at these times, the oldest first, the one to be dropped so that
 * `keep` (1 or more) are left; n: none.
 */
size_t rotation_victim(const time_t *taken, size_t n, size_t keep, time_t now);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * intent.h - what a look-up of a socket's name is for.
 */
#ifndef FS_INTENT_H
#define FS_INTENT_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Is the thread that waits for the answer about to connect, as far as can be told?
 * Every doubt is a yes; a thread of this process is a no.
 */
bool intent_is_connect(pid_t tid);
/* The pure half: of the text of /proc/TID/syscall. */
bool intent_parse(const char *text);

#endif

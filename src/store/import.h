/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * import.h - makes a store and takes a finished data directory into its first
 * layer.
 */
#ifndef STORE_IMPORT_H
#define STORE_IMPORT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Makes the skeleton of a store at path (which may be an empty directory) and
 * returns its descriptor.  -EEXIST if it is a store already or not empty.  The
 * store is not usable before store_import finished: a crash between leaves a
 * directory that registry_open refuses by name.
 */
int store_create(const char *path, int *ret_storefd, struct err *e) MUST_CHECK;
/*
 * Takes the tree at src (a data directory that nobody uses) in as the contents
 * of branch "main", protected, owned by owner.  move: the files are renamed into
 * the store where they are on the same file system; src is empty afterwards.
 * Otherwise they are copied, by reflink where the file system can.  Sockets are
 * left out.  When it returns 0 the store is complete and durable.
 * progress(ctx, done, total) is called with bytes; may be NULL.
 */
int store_import(int storefd, const char *src, bool move, uid_t owner, gid_t group,
		 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		 struct err *e) MUST_CHECK;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zpipe.h - one zstd stream, written to or read from a descriptor, with a CRC-32 of
 * what is in it.  zstd's own sum is in the stream, too.
 */
#ifndef CLI_ZPIPE_H
#define CLI_ZPIPE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct zout;
int zout_new(int fd, struct zout **ret_out) MUST_CHECK;
int zout_write(struct zout *z, const void *buf, size_t len) MUST_CHECK;
/* The sum of what was written so far. */
uint32_t zout_sum(const struct zout *z);
/* How many bytes went out. */
uint64_t zout_sent(const struct zout *z);
int zout_end(struct zout *z) MUST_CHECK;
struct zout *zout_free(struct zout *z);

struct zin;
int zin_new(int fd, struct zin **ret_in) MUST_CHECK;
/* Exactly len bytes.  -ENODATA: it ends before; -EBADMSG: it is damaged. */
int zin_read(struct zin *z, void *buf, size_t len) MUST_CHECK;
uint32_t zin_sum(const struct zin *z);
/* 0: it ends here, and its sum is right. */
int zin_end(struct zin *z) MUST_CHECK;
struct zin *zin_free(struct zin *z);

#endif

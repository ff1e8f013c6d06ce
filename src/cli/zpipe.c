/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/zpipe.h"

#include "base/fd.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define LEVEL 3
#define BUF_BYTES ((size_t)1 << 17)

struct zout {
	ZSTD_CCtx *ctx;
	int fd;
	uint32_t sum;
	uint64_t sent;
	uint8_t buf[BUF_BYTES];
};

struct zin {
	ZSTD_DCtx *ctx;
	int fd;
	uint32_t sum;
	bool ended; /* the frame is complete, with its sum */
	ZSTD_inBuffer in;
	uint8_t buf[BUF_BYTES];
};

int zout_new(int fd, struct zout **ret_out)
{
	struct zout *z = calloc(1, sizeof(*z));

	if (z)
		z->ctx = ZSTD_createCCtx();
	if (!z || !z->ctx ||
	    ZSTD_isError(
		    ZSTD_CCtx_setParameter(z->ctx, ZSTD_c_compressionLevel, LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(z->ctx, ZSTD_c_checksumFlag, 1))) {
		zout_free(z);
		return -ENOMEM;
	}
	z->fd = fd;
	*ret_out = z;
	return 0;
}

static int run(struct zout *z, const void *buf, size_t len, ZSTD_EndDirective end)
{
	ZSTD_inBuffer in = {buf, len, 0};
	size_t left;

	do {
		ZSTD_outBuffer out = {z->buf, sizeof(z->buf), 0};
		int rc;

		left = ZSTD_compressStream2(z->ctx, &out, &in, end);
		if (ZSTD_isError(left))
			return -EIO;
		rc = fd_write_full(z->fd, z->buf, out.pos);
		if (rc < 0)
			return rc;
		z->sent += out.pos;
	} while (end == ZSTD_e_end ? left > 0 : in.pos < in.size);
	return 0;
}

int zout_write(struct zout *z, const void *buf, size_t len)
{
	z->sum = (uint32_t)crc32_z(z->sum, buf, len);
	return run(z, buf, len, ZSTD_e_continue);
}

uint32_t zout_sum(const struct zout *z)
{
	return z->sum;
}

uint64_t zout_sent(const struct zout *z)
{
	return z->sent;
}

int zout_end(struct zout *z)
{
	return run(z, NULL, 0, ZSTD_e_end);
}

struct zout *zout_free(struct zout *z)
{
	if (z)
		ZSTD_freeCCtx(z->ctx);
	free(z);
	return NULL;
}

int zin_new(int fd, struct zin **ret_in)
{
	struct zin *z = calloc(1, sizeof(*z));

	if (z)
		z->ctx = ZSTD_createDCtx();
	if (!z || !z->ctx) {
		zin_free(z);
		return -ENOMEM;
	}
	z->fd = fd;
	z->in.src = z->buf;
	*ret_in = z;
	return 0;
}

/* More of the compressed stream; 0 at its end. */
static ssize_t refill(struct zin *z)
{
	ssize_t n;

	if (z->in.pos < z->in.size)
		return 1;
	do
		n = read(z->fd, z->buf, sizeof(z->buf));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	z->in.pos = 0;
	z->in.size = (size_t)n;
	return n;
}

/* Decodes up to len bytes; an empty step is possible. */
static int step(struct zin *z, uint8_t *buf, size_t len, size_t *ret_done)
{
	ZSTD_outBuffer out = {buf, len, 0};
	size_t before = z->in.pos, left;

	left = ZSTD_decompressStream(z->ctx, &out, &z->in);
	if (ZSTD_isError(left))
		return -EBADMSG;
	z->ended = left == 0;
	*ret_done = out.pos;
	/* what zstd holds back comes without more input */
	return out.pos == 0 && z->in.pos == before && !z->ended ? -ENODATA : 0;
}

int zin_read(struct zin *z, void *buf, size_t len)
{
	size_t done = 0, n;

	while (done < len) {
		ssize_t more;
		int rc;

		if (z->ended)
			return -ENODATA;
		more = refill(z);
		if (more < 0)
			return (int)more;
		rc = step(z, (uint8_t *)buf + done, len - done, &n);
		if (rc < 0)
			return rc;
		done += n;
	}
	z->sum = (uint32_t)crc32_z(z->sum, buf, len);
	return 0;
}

uint32_t zin_sum(const struct zin *z)
{
	return z->sum;
}

int zin_end(struct zin *z)
{
	uint8_t byte;
	size_t n;

	while (!z->ended) {
		ssize_t more = refill(z);
		int rc = more < 0 ? (int)more : step(z, &byte, 1, &n);

		if (rc < 0)
			return rc;
		if (n > 0)
			return -EBADMSG; /* something behind the end */
	}
	return refill(z) == 0 ? 0 : -EBADMSG;
}

struct zin *zin_free(struct zin *z)
{
	if (z)
		ZSTD_freeDCtx(z->ctx);
	free(z);
	return NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The records of a stream, as they are once it is uncompressed.  What decodes is
 * encoded to the same bytes; names are those of one component.
 */
#include "fuzz.h"
#include "store/stream.h"

static void check(const struct stream_record *r, const uint8_t *payload, uint32_t len)
{
	static uint8_t again[STREAM_RECORD + STREAM_PAYLOAD_MAX];
	int n;

	if (r->name) {
		MUST(r->id > 0 && r->mode <= 07777 && r->mtime_ns < 1000000000);
		MUST((r->name[0] == '\0') == (r->id == STREAM_ROOT));
		MUST(!strchr(r->name, '/') && strcmp(r->name, "..") != 0);
		MUST(r->type != STREAM_SYMLINK || r->target[0]);
	}
	if (r->type == STREAM_HEADER && r->len > STREAM_BYTES_MAX)
		return;
	n = stream_encode(r, again);
	MUST(n == (int)(STREAM_RECORD + len));
	MUST(len == 0 || memcmp(again + STREAM_RECORD, payload, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t head[STREAM_HEAD];

	if (size < STREAM_HEAD)
		return 0;
	(void)!stream_head_decode(data);
	stream_head_encode(head);
	MUST(stream_head_decode(head) == 0);
	data += STREAM_HEAD;
	size -= STREAM_HEAD;
	while (size >= STREAM_RECORD) {
		struct stream_record r;
		enum stream_type type;
		uint8_t *payload;
		uint32_t len;

		if (stream_record_decode(data, &type, &len) < 0 ||
		    len > size - STREAM_RECORD)
			return 0;
		payload = malloc(len + 1); /* exactly: so that a read behind it shows */
		MUST(payload);
		memcpy(payload, data + STREAM_RECORD, len);
		if (stream_decode(type, payload, len, &r) == 0)
			check(&r, payload, len);
		free(payload);
		data += STREAM_RECORD + len;
		size -= STREAM_RECORD + len;
	}
	return 0;
}

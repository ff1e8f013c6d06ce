/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel honours the latency that was written to the device as long as that
 * descriptor is open, and takes the smallest of all that are asked for.
 */
#include "base/cpuwake.h"

#include <fcntl.h>

struct cpuwake {
	struct loop_timer *end;
	int64_t until_ms;
	int fd; /* -1: they may sleep */
};

static void let_sleep(void *ctx)
{
	struct cpuwake *c = ctx;

	clean_fd(&c->fd);
	c->fd = -1;
}

int cpuwake_new(struct loop *l, struct cpuwake **ret_c)
{
	struct cpuwake *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->fd = -1;
	rc = loop_timer_new(l, let_sleep, c, &c->end);
	if (rc < 0) {
		free(c);
		return rc;
	}
	*ret_c = c;
	return 0;
}

struct cpuwake *cpuwake_free(struct cpuwake *c)
{
	if (!c)
		return NULL;
	let_sleep(c);
	(void)loop_timer_free(c->end);
	free(c);
	return NULL;
}

/* -1 where it cannot be had. */
static int ask_for_no_latency(void)
{
	static const int32_t none_us = 0;
	CLEAN(clean_fd) int fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, &none_us, sizeof(none_us)) != sizeof(none_us))
		return -1;
	return steal_fd(&fd);
}

void cpuwake_for(struct cpuwake *c, int64_t ms)
{
	int64_t until_ms = loop_now_ms() + ms;

	if (c->fd < 0)
		c->fd = ask_for_no_latency();
	else if (until_ms <= c->until_ms)
		return;
	c->until_ms = until_ms;
	loop_timer_arm(c->end, ms);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "base/cpuwake.h"
#include "base/loop.h"
#include "base/text.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* What happened, as letters in order. */
struct scene {
	struct loop *loop;
	struct str seen;
	struct loop_io *io[2];
	struct loop_timer *timer[4];
	int fd[2];
	int count;
	pthread_t thread;
};

static int scene_make(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	if (!s || loop_new(&s->loop) < 0)
		return -1;
	s->fd[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->fd[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*state = s;
	return 0;
}

static int scene_remove(void **state)
{
	struct scene *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(s->timer); i++)
		loop_timer_free(s->timer[i]);
	for (size_t i = 0; i < ARRAY_SIZE(s->io); i++) {
		loop_io_free(s->io[i]);
		close(s->fd[i]);
	}
	s->loop = loop_free(s->loop);
	str_fini(&s->seen);
	free(s);
	return 0;
}

static void stop(void *ctx)
{
	struct scene *s = ctx;

	str_add(&s->seen, "S");
	loop_stop(s->loop);
}

static void letter_a(void *ctx)
{
	str_add(&((struct scene *)ctx)->seen, "a");
}

static void letter_b(void *ctx)
{
	str_add(&((struct scene *)ctx)->seen, "b");
}

static void letter_c(void *ctx)
{
	str_add(&((struct scene *)ctx)->seen, "c");
}

static void post_again(void *ctx)
{
	struct scene *s = ctx;

	str_add(&s->seen, "p");
	assert_true(loop_is_mine(s->loop));
	if (++s->count < 3)
		assert_int_equal(loop_post(s->loop, post_again, s), 0);
	else
		loop_stop(s->loop);
}

static void test_posts(void **state)
{
	struct scene *s = *state;

	assert_true(loop_is_mine(s->loop));
	assert_int_equal(loop_post(s->loop, letter_a, s), 0);
	assert_int_equal(loop_post(s->loop, letter_b, s), 0);
	assert_int_equal(loop_post(s->loop, post_again, s), 0);
	assert_int_equal(loop_post(s->loop, letter_c, s), 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "abpcpp");
}

static void test_stop(void **state)
{
	struct scene *s = *state;

	/* before run; posts of before still run; the next run is a new one */
	loop_stop(s->loop);
	assert_int_equal(loop_post(s->loop, letter_a, s), 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "a");
	assert_int_equal(loop_post(s->loop, stop, s), 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "aS");
	/* dropped with the loop, without a leak */
	assert_int_equal(loop_post(s->loop, letter_a, s), 0);
}

static void test_timer_order(void **state)
{
	struct scene *s = *state;
	struct loop_timer *many[100];

	assert_int_equal(loop_timer_new(s->loop, letter_a, s, &s->timer[0]), 0);
	assert_int_equal(loop_timer_new(s->loop, letter_b, s, &s->timer[1]), 0);
	assert_int_equal(loop_timer_new(s->loop, letter_c, s, &s->timer[2]), 0);
	assert_int_equal(loop_timer_new(s->loop, stop, s, &s->timer[3]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		assert_int_equal(loop_timer_new(s->loop, letter_a, s, &many[i]), 0);
		loop_timer_arm(many[i], 10000 + (int64_t)(i * 37 % 100));
	}
	loop_timer_arm(s->timer[3], 40);
	loop_timer_arm(s->timer[0], 20);
	loop_timer_arm(s->timer[1], 1);
	loop_timer_arm(s->timer[2], 0);
	loop_timer_arm(s->timer[2], INT64_MAX); /* moved out of reach */
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		if (i % 3 == 0)
			loop_timer_arm(many[i], -1);
		else if (i % 3 == 1)
			many[i] = loop_timer_free(many[i]);
	}
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "baS");
	/* equal times run in the order of arming */
	loop_timer_arm(s->timer[2], 0);
	loop_timer_arm(s->timer[0], 0);
	loop_timer_arm(s->timer[3], 5);
	loop_timer_arm(s->timer[3], -1);
	loop_timer_arm(s->timer[3], 5);
	assert_int_equal(loop_run(s->loop), 0);
	assert_true(strcmp(s->seen.s, "baScaS") == 0);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		loop_timer_free(many[i]);
}

static void rearm_now(void *ctx)
{
	struct scene *s = ctx;

	loop_timer_arm(s->timer[0], 0);
}

static void count_io(void *ctx, uint32_t events)
{
	struct scene *s = ctx;

	assert_true(events & EPOLLIN);
	if (++s->count == 5)
		loop_stop(s->loop);
}

/* A timer that is always due leaves room for descriptors. */
static void test_timer_does_not_starve(void **state)
{
	struct scene *s = *state;

	assert_int_equal(loop_timer_new(s->loop, rearm_now, s, &s->timer[0]), 0);
	assert_int_equal(eventfd_write(s->fd[0], 1), 0);
	assert_int_equal(
		loop_io_new(s->loop, s->fd[0], EPOLLIN, count_io, s, &s->io[0]), 0);
	loop_timer_arm(s->timer[0], 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_int_equal(s->count, 5);
}

static void free_all(void *ctx)
{
	struct scene *s = ctx;

	str_add(&s->seen, "f");
	for (size_t i = 0; i < ARRAY_SIZE(s->timer); i++)
		s->timer[i] = loop_timer_free(s->timer[i]);
	for (size_t i = 0; i < ARRAY_SIZE(s->io); i++)
		s->io[i] = loop_io_free(s->io[i]);
	assert_int_equal(loop_post(s->loop, stop, s), 0);
}

static void free_all_io(void *ctx, uint32_t events)
{
	(void)events;
	free_all(ctx);
}

/* Both descriptors and the timers are ready; whoever runs first frees all. */
static void test_free_inside_callbacks(void **state)
{
	struct scene *s = *state;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(eventfd_write(s->fd[i], 1), 0);
		assert_int_equal(loop_io_new(s->loop, s->fd[i], EPOLLIN, free_all_io, s,
					     &s->io[i]),
				 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(loop_timer_new(s->loop, free_all, s, &s->timer[i]), 0);
		loop_timer_arm(s->timer[i], 0);
	}
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "fS");
	/* timers alone */
	for (int i = 0; i < 4; i++) {
		assert_int_equal(loop_timer_new(s->loop, free_all, s, &s->timer[i]), 0);
		loop_timer_arm(s->timer[i], 0);
	}
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "fSfS");
}

static void io_written(void *ctx, uint32_t events)
{
	struct scene *s = ctx;

	str_printf(&s->seen, "%s%s", events & EPOLLIN ? "i" : "",
		   events & EPOLLOUT ? "o" : "");
	if (events & EPOLLOUT)
		assert_int_equal(loop_io_events(s->io[0], EPOLLIN), 0);
	else
		loop_stop(s->loop);
	assert_int_equal(eventfd_write(s->fd[0], 1), 0);
}

static void test_io_events(void **state)
{
	struct scene *s = *state;
	struct loop_io *io = NULL;

	assert_int_equal(
		loop_io_new(s->loop, s->fd[0], EPOLLOUT, io_written, s, &s->io[0]), 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "oi");
	assert_int_equal(loop_io_new(s->loop, -1, EPOLLIN, io_written, s, &io), -EBADF);
	assert_int_equal(loop_io_new(s->loop, s->fd[0], EPOLLIN, io_written, s, &io),
			 -EEXIST);
	assert_null(io);
	assert_null(loop_io_free(NULL));
	assert_null(loop_timer_free(NULL));
	assert_null(loop_free(NULL));
	assert_null(pool_free(NULL));
}

static void count_post(void *ctx)
{
	struct scene *s = ctx;

	if (++s->count == 4000)
		loop_stop(s->loop);
}

static void post_many(void *ctx)
{
	struct scene *s = ctx;

	assert_false(loop_is_mine(s->loop));
	for (int i = 0; i < 1000; i++)
		assert_int_equal(loop_post(s->loop, count_post, s), 0);
}

static void test_pool_posts_back(void **state)
{
	struct scene *s = *state;
	struct pool *pool = NULL;

	assert_int_equal(pool_new(0, &pool), -EINVAL);
	assert_int_equal(pool_new(4, &pool), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pool_post(pool, post_many, s), 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_int_equal(s->count, 4000);
	assert_null(pool_free(pool));
}

/* One thread: in order, and pool_free runs what is queued. */
static void test_pool_order(void **state)
{
	struct scene *s = *state;
	struct pool *pool = NULL;

	assert_int_equal(pool_new(1, &pool), 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(pool_post(pool, letter_a, s), 0);
		assert_int_equal(pool_post(pool, letter_b, s), 0);
	}
	pool = pool_free(pool);
	assert_int_equal(s->seen.len, 200);
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(s->seen.s[i], i % 2 ? 'b' : 'a');
}

static void *run_loop(void *ctx)
{
	struct scene *s = ctx;

	return (void *)(intptr_t)loop_run(s->loop);
}

/* The loop waits without a timer; another thread posts and stops it. */
static void test_other_thread(void **state)
{
	struct scene *s = *state;
	void *rc = NULL;

	assert_int_equal(pthread_create(&s->thread, NULL, run_loop, s), 0);
	assert_int_equal(loop_post(s->loop, letter_a, s), 0);
	loop_stop(s->loop);
	assert_int_equal(pthread_join(s->thread, &rc), 0);
	assert_null(rc);
	assert_string_equal(s->seen.s, "a");
	assert_false(loop_is_mine(s->loop));
}

/* Does this process hold the device? */
static bool latency_is_held(void)
{
	char path[32], target[64];
	bool found = false;

	for (int fd = 0; fd < 64 && !found; fd++) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		found = strcmp(target, "/dev/cpu_dma_latency") == 0;
	}
	return found;
}

static void look_at_latency(void *ctx)
{
	struct scene *s = ctx;

	str_add(&s->seen, latency_is_held() ? "H" : "-");
}

static void test_cpuwake(void **state)
{
	struct scene *s = *state;
	struct cpuwake *c;

	if (access("/dev/cpu_dma_latency", W_OK) < 0)
		skip(); /* not root, or a machine without */
	assert_int_equal(cpuwake_new(s->loop, &c), 0);
	assert_int_equal(loop_timer_new(s->loop, look_at_latency, s, &s->timer[0]), 0);
	assert_int_equal(loop_timer_new(s->loop, look_at_latency, s, &s->timer[1]), 0);
	assert_int_equal(loop_timer_new(s->loop, stop, s, &s->timer[2]), 0);
	assert_false(latency_is_held());
	cpuwake_for(c, 300);
	cpuwake_for(c, 10); /* does not cut it short */
	assert_true(latency_is_held());
	loop_timer_arm(s->timer[0], 100);
	loop_timer_arm(s->timer[1], 301);
	loop_timer_arm(s->timer[2], 302);
	assert_int_equal(loop_run(s->loop), 0);
	assert_string_equal(s->seen.s, "H-S");
	cpuwake_for(c, 1000);
	assert_true(latency_is_held());
	assert_null(cpuwake_free(c));
	assert_false(latency_is_held());
}

int main(void)
{
#define SCENE(f) cmocka_unit_test_setup_teardown(f, scene_make, scene_remove)
	const struct CMUnitTest tests[] = {
		SCENE(test_posts),
		SCENE(test_stop),
		SCENE(test_timer_order),
		SCENE(test_timer_does_not_starve),
		SCENE(test_free_inside_callbacks),
		SCENE(test_io_events),
		SCENE(test_pool_posts_back),
		SCENE(test_pool_order),
		SCENE(test_other_thread),
		SCENE(test_cpuwake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

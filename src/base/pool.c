/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool's threads block all signals: the daemon takes them from a signalfd on
 * the loop thread, and a job never sees EINTR.
 */
#include "base/loop.h"

#include <signal.h>

struct pool_job {
	struct pool_job *next;
	void (*fn)(void *ctx);
	void *ctx;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct pool_job *first; /* lock: lock */
	struct pool_job **last; /* lock: lock */
	bool ending;            /* lock: lock */
	unsigned n_threads;
	pthread_t threads[];
};

/* The next job, or NULL when the pool ends and the queue is empty. */
static struct pool_job *pool_take(struct pool *p)
{
	struct pool_job *job;

	LOCK_SCOPE(&p->lock);
	while (!p->first && !p->ending)
		(void)pthread_cond_wait(&p->wake, &p->lock); /* cannot fail */
	job = p->first;
	if (job) {
		p->first = job->next;
		if (!p->first)
			p->last = &p->first;
	}
	return job;
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	struct pool_job *job;

	while ((job = pool_take(p)) != NULL) {
		job->fn(job->ctx);
		free(job);
	}
	return NULL;
}

int pool_new(unsigned threads, struct pool **ret_pool)
{
	struct pool *p;
	sigset_t all, before;
	int rc = 0;

	if (threads == 0)
		return -EINVAL;
	p = calloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
	if (!p)
		return -ENOMEM;
	(void)pthread_mutex_init(&p->lock, NULL); /* cannot fail with NULL */
	(void)pthread_cond_init(&p->wake, NULL);
	p->last = &p->first;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	while (rc == 0 && p->n_threads < threads) {
		rc = pthread_create(&p->threads[p->n_threads], NULL, pool_thread, p);
		if (rc == 0)
			p->n_threads++;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		pool_free(p);
		return -rc;
	}
	*ret_pool = p;
	return 0;
}

static void pool_end(struct pool *p)
{
	LOCK_SCOPE(&p->lock);
	p->ending = true;
	(void)pthread_cond_broadcast(&p->wake);
}

struct pool *pool_free(struct pool *p)
{
	int saved = errno;

	if (!p)
		return NULL;
	pool_end(p);
	for (unsigned i = 0; i < p->n_threads; i++)
		(void)pthread_join(p->threads[i], NULL); /* ours, joined once */
	(void)pthread_cond_destroy(&p->wake);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
	errno = saved;
	return NULL;
}

int pool_post(struct pool *p, void (*fn)(void *ctx), void *ctx)
{
	struct pool_job *job = malloc(sizeof(*job));

	if (!job)
		return -ENOMEM;
	*job = (struct pool_job){.fn = fn, .ctx = ctx};
	LOCK_SCOPE(&p->lock);
	*p->last = job;
	p->last = &job->next;
	(void)pthread_cond_signal(&p->wake);
	return 0;
}

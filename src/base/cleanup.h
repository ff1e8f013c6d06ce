/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cleanup.h - scope-bound release of memory, descriptors and locks.
 *
 * CLEAN(fn) on a local calls fn(&local) when the scope ends, also on an early
 * return.  steal() hands the value on and disarms it.  LOCK_SCOPE() is the only
 * way to take a mutex: it is held until the end of the enclosing scope.
 * Every cleaner keeps errno and accepts NULL or -1.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEAN(fn) __attribute__((cleanup(fn)))
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Takes a pointer out of a CLEAN variable: the variable becomes NULL. */
#define steal(p)                                                                       \
	__extension__({                                                                \
		__typeof__(p) steal_v_ = (p);                                          \
		(p) = NULL;                                                            \
		steal_v_;                                                              \
	})

/* CLEAN(clean_free) char *p: frees at the end of the scope. */
static inline void clean_free(void *pp)
{
	int saved = errno;

	free(*(void **)pp);
	errno = saved;
}

/* CLEAN(clean_fd) int fd = -1: closes at the end of the scope. */
static inline void clean_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd); /* nothing was promised of it */
	errno = saved;
}

/* Takes a descriptor out of a CLEAN(clean_fd) variable. */
static inline int steal_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

static inline pthread_mutex_t *lock_take_(pthread_mutex_t *m)
{
	(void)pthread_mutex_lock(m); /* fails only on programmer mistakes */
	return m;
}

static inline void lock_drop_(pthread_mutex_t **m)
{
	(void)pthread_mutex_unlock(*m);
}

static inline pthread_rwlock_t *lock_read_(pthread_rwlock_t *l)
{
	(void)pthread_rwlock_rdlock(l);
	return l;
}

static inline pthread_rwlock_t *lock_write_(pthread_rwlock_t *l)
{
	(void)pthread_rwlock_wrlock(l);
	return l;
}

static inline void lock_unrw_(pthread_rwlock_t **l)
{
	(void)pthread_rwlock_unlock(*l);
}

#define LOCK_CAT2_(a, b) a##b
#define LOCK_CAT_(a, b) LOCK_CAT2_(a, b)
#define LOCK_SCOPE(m)                                                                  \
	CLEAN(lock_drop_)                                                              \
	__attribute__((unused)) pthread_mutex_t *LOCK_CAT_(lock_, __LINE__) =          \
		lock_take_(m)
#define READ_SCOPE(l)                                                                  \
	CLEAN(lock_unrw_)                                                              \
	__attribute__((unused)) pthread_rwlock_t *LOCK_CAT_(rlock_, __LINE__) =        \
		lock_read_(l)
#define WRITE_SCOPE(l)                                                                 \
	CLEAN(lock_unrw_)                                                              \
	__attribute__((unused)) pthread_rwlock_t *LOCK_CAT_(wlock_, __LINE__) =        \
		lock_write_(l)

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Scope-bound ownership. A variable marked with one of these is released when it goes out of
 * scope; steal_fd() and steal_ptr() hand its value to a new owner and leave it empty.
 * Thread-safe: nothing here is shared.
 */
#ifndef COMMON_CLEANUP_H
#define COMMON_CLEANUP_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* Keeps errno: an owner goes out of scope on error paths too. */
static inline void cleanup_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		(void)close(*fd); /* nothing can be done about it here */
		errno = saved;
	}
}

static inline void cleanup_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

static inline int steal_fd(int *fd)
{
	int v = *fd;
	*fd = -1;
	return v;
}

static inline void *steal_ptr_(void **p)
{
	void *v = *p;
	*p = NULL;
	return v;
}

#define autofree     __attribute__((cleanup(cleanup_free)))
#define autoclose    __attribute__((cleanup(cleanup_close)))
#define steal_ptr(p) ((__typeof__(*(p)))steal_ptr_((void **)(p)))

/* Holds the mutex until the end of the enclosing block. */
#define SCOPED_LOCK(m)                                                                             \
	__attribute__((cleanup(cleanup_unlock), unused)) pthread_mutex_t *scoped_lock_##__LINE__ = \
		(pthread_mutex_lock(m), (m))

#endif

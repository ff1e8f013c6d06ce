/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doorman.c - the thread that opens run directories, binds listeners and connects
 * for clients.
 *
 * Peer authentication asks the kernel for the effective ids of the thread that
 * called connect().  Linux keeps ids per thread; glibc's setresuid() would change
 * all of them, so the raw system calls are used.  SECBIT_NO_SETUID_FIXUP (also per
 * thread) keeps the capabilities while the ids change, so that the permissions of
 * the run directory, which is the server's alone, do not matter.
 */
#include "pg/doorman.h"

#include "base/log.h"
#include "pg/pgexec.h"
#include "store/overlay.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define LISTEN_BACKLOG 512
#define POST_RETRY_NS 10000000L

struct request {
	struct request *next;
	struct doorman *doorman;
	void (*run)(struct request *rq);
	void (*report)(struct request *rq);
	void *ctx;
	/* open, listen */
	doorman_open_done open_done;
	doorman_listen_done listen_done;
	struct rundirs *dirs;
	struct branch *branch;
	uint64_t fid;
	/* connect */
	doorman_connect_done connect_done;
	struct ucred who;
	/* all */
	struct rundir *rd;
	int rc;
	int fd;
};

struct doorman {
	struct loop *loop;
	bool privileged;
	bool stuck; /* doorman thread only: it could not become root again */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct request *head, **tail; /* lock: lock */
	bool ending;                  /* lock: lock */
};

void doorman_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	const struct timespec pause = {0, POST_RETRY_NS};

	/* out of memory: nothing to wait for but that somebody frees some */
	while (loop_post(l, fn, ctx) < 0)
		(void)nanosleep(&pause, NULL);
}

static void request_free(struct request *rq)
{
	clean_fd(&rq->fd);
	(void)rundir_put(rq->rd);
	(void)branch_put(rq->branch);
	free(rq);
}

/* On the loop. */
static void request_report(void *ctx)
{
	struct request *rq = ctx;

	rq->report(rq);
	request_free(rq);
}

static void run_open(struct request *rq)
{
	rq->rc = rundir_open(rq->dirs, rq->branch, &rq->rd);
	if (rq->rc == 0)
		rq->rc = rundir_pin_data(rq->rd);
}

static void report_open(struct request *rq)
{
	rq->open_done(rq->ctx, rq->rc, rq->rd);
}

static int bind_listener(struct request *rq, int fd)
{
	struct overlay *run = rundir_run(rq->rd);
	struct sockaddr_un addr;
	struct node_attr attr;
	socklen_t len;
	int rc = overlay_unlink(run, OVERLAY_ROOT, DOORMAN_LISTENER);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	len = rundir_address(rq->rd, DOORMAN_LISTENER, &addr);
	if (bind(fd, (struct sockaddr *)&addr, len) < 0)
		return -errno;
	/* who may connect is decided by the branch's directory, as with Postgres */
	if (fchmodat(rundir_fd(rq->rd), DOORMAN_LISTENER, 0777, 0) < 0)
		return -errno;
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	rc = overlay_lookup(run, OVERLAY_ROOT, DOORMAN_LISTENER, &attr);
	rq->fid = rc == 0 ? attr.fid : 0;
	return rc;
}

static void run_listen(struct request *rq)
{
	rq->rc = rundir_open(rq->dirs, rq->branch, &rq->rd);
	if (rq->rc < 0)
		return;
	rq->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rq->rc = rq->fd < 0 ? -errno : bind_listener(rq, rq->fd);
}

static void report_listen(struct request *rq)
{
	rq->listen_done(rq->ctx, rq->rc, rq->rc == 0 ? steal_fd(&rq->fd) : -1, rq->fid,
			rq->rd);
}

/* Effective ids of this thread only; 0 or -errno. */
static int take_ids(uid_t uid, gid_t gid)
{
	if (syscall(SYS_setresgid, (gid_t)-1, gid, (gid_t)-1) < 0)
		return -errno;
	if (syscall(SYS_setresuid, (uid_t)-1, uid, (uid_t)-1) < 0) {
		int rc = -errno;

		(void)syscall(SYS_setresgid, (gid_t)-1, (gid_t)0, (gid_t)-1);
		return rc;
	}
	return 0;
}

static int connect_socket(struct request *rq)
{
	struct sockaddr_un addr;
	socklen_t len = rundir_address(rq->rd, PGEXEC_SOCKET, &addr);

	if (connect(rq->fd, (struct sockaddr *)&addr, len) < 0)
		return -errno;
	return rundir_check_peer(rq->rd, rq->fd);
}

static void run_connect(struct request *rq)
{
	struct doorman *d = rq->doorman;

	rq->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (rq->fd < 0) {
		rq->rc = -errno;
		return;
	}
	if (!d->privileged) {
		/* nobody may pass as us, but root might anyhow */
		rq->rc = rq->who.uid == geteuid() || rq->who.uid == 0
				 ? connect_socket(rq)
				 : -EPERM;
		return;
	}
	if (d->stuck) {
		rq->rc = -EPERM;
		return;
	}
	rq->rc = take_ids(rq->who.uid, rq->who.gid);
	if (rq->rc < 0)
		return;
	rq->rc = connect_socket(rq);
	if (take_ids(0, 0) < 0) {
		/* cannot be: the saved uid is 0; but never serve anybody as this */
		d->stuck = true;
		log_error("cannot return to root after connecting for uid %u, "
			  "no further client will be connected",
			  (unsigned)rq->who.uid);
	}
}

static void report_connect(struct request *rq)
{
	rq->connect_done(rq->ctx, rq->rc, rq->rc == 0 ? steal_fd(&rq->fd) : -1);
}

static struct request *next_request(struct doorman *d)
{
	struct request *rq;

	LOCK_SCOPE(&d->lock);
	while (!d->head && !d->ending)
		(void)pthread_cond_wait(&d->wake, &d->lock);
	if (d->ending)
		return NULL;
	rq = d->head;
	d->head = rq->next;
	if (!d->head)
		d->tail = &d->head;
	return rq;
}

static void *doorman_main(void *arg)
{
	struct doorman *d = arg;
	struct request *rq;

	if (d->privileged &&
	    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
		log_warn("cannot set securebits: %s, only its owner will be able to "
			 "wake "
			 "a branch",
			 strerrordesc_np(errno));
	while ((rq = next_request(d))) {
		rq->run(rq);
		doorman_post(d->loop, request_report, rq);
	}
	return NULL;
}

int doorman_new(struct loop *l, bool privileged, struct doorman **ret_d)
{
	struct doorman *d = calloc(1, sizeof(*d));
	sigset_t all, old;
	int rc;

	if (!d)
		return -ENOMEM;
	d->loop = l;
	d->privileged = privileged;
	d->tail = &d->head;
	(void)pthread_mutex_init(&d->lock, NULL); /* cannot fail with NULL */
	(void)pthread_cond_init(&d->wake, NULL);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&d->thread, NULL, doorman_main, d);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0) {
		(void)pthread_cond_destroy(&d->wake);
		(void)pthread_mutex_destroy(&d->lock);
		free(d);
		return rc;
	}
	*ret_d = d;
	return 0;
}

static void doorman_end(struct doorman *d)
{
	LOCK_SCOPE(&d->lock);
	d->ending = true;
	(void)pthread_cond_signal(&d->wake);
}

struct doorman *doorman_free(struct doorman *d)
{
	struct request *rq;

	if (!d)
		return NULL;
	doorman_end(d);
	(void)pthread_join(d->thread, NULL);
	while ((rq = d->head)) {
		d->head = rq->next;
		request_free(rq);
	}
	(void)pthread_cond_destroy(&d->wake);
	(void)pthread_mutex_destroy(&d->lock);
	free(d);
	return NULL;
}

static void enqueue(struct doorman *d, struct request *rq)
{
	LOCK_SCOPE(&d->lock);
	*d->tail = rq;
	d->tail = &rq->next;
	(void)pthread_cond_signal(&d->wake);
}

/* A request for a branch; NULL when out of memory. */
static struct request *request_new(struct doorman *d, struct rundirs *dirs,
				   struct branch *b, void *ctx)
{
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq)
		return NULL;
	rq->doorman = d;
	rq->dirs = dirs;
	rq->branch = branch_get(b);
	rq->ctx = ctx;
	rq->fd = -1;
	return rq;
}

int doorman_open(struct doorman *d, struct rundirs *dirs, struct branch *b,
		 doorman_open_done done, void *ctx)
{
	struct request *rq = request_new(d, dirs, b, ctx);

	if (!rq)
		return -ENOMEM;
	rq->run = run_open;
	rq->report = report_open;
	rq->open_done = done;
	enqueue(d, rq);
	return 0;
}

int doorman_listen(struct doorman *d, struct rundirs *dirs, struct branch *b,
		   doorman_listen_done done, void *ctx)
{
	struct request *rq = request_new(d, dirs, b, ctx);

	if (!rq)
		return -ENOMEM;
	rq->run = run_listen;
	rq->report = report_listen;
	rq->listen_done = done;
	enqueue(d, rq);
	return 0;
}

int doorman_connect(struct doorman *d, struct rundir *rd, const struct ucred *who,
		    doorman_connect_done done, void *ctx)
{
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq)
		return -ENOMEM;
	rq->doorman = d;
	rq->run = run_connect;
	rq->report = report_connect;
	rq->ctx = ctx;
	rq->connect_done = done;
	rq->who = *who;
	rq->rd = rundir_get(rd);
	rq->fd = -1;
	enqueue(d, rq);
	return 0;
}

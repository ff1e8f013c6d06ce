/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mounting, the agreement with the kernel (INIT), and the workers.
 *
 * The first message of the kernel is INIT; fs_session_start answers it before any
 * worker runs, because libfuse settles the size of the request buffers with it.
 * Each worker then reads a request, handles it, reads the next one.
 *
 * The end: the mount is taken off while the workers still serve, so that the
 * kernel can write out its dirty pages; their reads then give ENODEV.  If somebody
 * sits in the mount it stays alive without a name, and so it does if another mount
 * namespace (a container that was started meanwhile) has a copy of it.  Then the
 * workers are called off by a signal.
 */
#include "fs/session.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "ctl/metrics.h"
#include "fs/dead.h"
#include "fs/forget.h"
#include "fs/fs.h"
#include "fs/guard.h"
#include "fs/handle.h"
#include "fs/mountpoint.h"
#include "fs/reqstat.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/*
 * Most requests are short; an fsync holds its worker for as long as the disk takes,
 * and a checkpoint sends several.  More threads than that only cost memory.
 */
#define WORKERS 16
#define REQUEST_BYTES_MAX (1 << 20)
/*
 * What the kernel may hand us of readahead and writeback at a time.  It keeps the rest
 * in a queue of its own, and all other requests come in front of that: a commit never
 * stands behind more than these, and never finds all workers taken by them.
 */
#define BACKGROUND_MAX 12
_Static_assert(BACKGROUND_MAX < WORKERS, "some workers are left for those who wait");
/* Interrupts a worker's read; nothing else of the daemon uses it. */
#define SIGNAL_END (SIGRTMIN + 5)
#define JOIN_STEP_NS (20 * 1000 * 1000)
/* For what the kernel has to end once the mount is off everywhere. */
#define END_PATIENCE_MS 1000

struct worker {
	struct fs_session *session;
	pthread_t thread;
	atomic_uint turns; /* odd while it handles a request */
	unsigned seen;     /* by fs_session_pulse */
	char apart[64];    /* so that no two of them count on one cache line */
};

struct fs_session {
	struct fs fs;
	char *mountpoint;
	dev_t dev; /* of the mount; 0: not known */
	struct guard *guard;
	struct worker workers[WORKERS];
	unsigned thread_count;
	atomic_bool stopping;
	atomic_bool told; /* that the kernel ended the mount */
	bool stopped;
	void (*gone)(void *ctx);
	void *gone_ctx;
};

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static void want(struct fuse_conn_info *conn, uint64_t cap)
{
	(void)fuse_set_feature_flag(conn, cap); /* false: the kernel has it not */
}

static void want_not(struct fuse_conn_info *conn, uint64_t cap)
{
	fuse_unset_feature_flag(conn, cap);
}

static bool has(const struct fuse_conn_info *conn, uint64_t cap)
{
	return (conn->capable_ext & cap) != 0;
}
#else
static bool has(const struct fuse_conn_info *conn, uint64_t cap)
{
	return (conn->capable & cap) != 0;
}

static void want(struct fuse_conn_info *conn, uint64_t cap)
{
	if (has(conn, cap))
		conn->want |= (unsigned)cap;
}

static void want_not(struct fuse_conn_info *conn, uint64_t cap)
{
	conn->want &= ~(unsigned)cap;
}
#endif

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	static const uint64_t wanted[] = {
		FUSE_CAP_WRITEBACK_CACHE,  FUSE_CAP_EXPLICIT_INVAL_DATA,
		FUSE_CAP_PARALLEL_DIROPS,  FUSE_CAP_ASYNC_READ,
		FUSE_CAP_ATOMIC_O_TRUNC,   FUSE_CAP_READDIRPLUS,
		FUSE_CAP_READDIRPLUS_AUTO,
	};
	/* behind an asynchronous direct write the kernel leaves old pages in its cache
	 * that were read meanwhile, and it queues all direct I/O behind writeback;
	 * AUTO_INVAL_DATA drops a file's pages after each write of our own; locks
	 * are then the kernel's own, splice is slower for 8 KiB blocks, and who wrote
	 * a page and must lose the set-user-id bit for it only the kernel knows */
	static const uint64_t unwanted[] = {
		FUSE_CAP_ASYNC_DIO,    FUSE_CAP_AUTO_INVAL_DATA, FUSE_CAP_SPLICE_READ,
		FUSE_CAP_SPLICE_WRITE, FUSE_CAP_SPLICE_MOVE,     FUSE_CAP_POSIX_LOCKS,
		FUSE_CAP_FLOCK_LOCKS,  FUSE_CAP_HANDLE_KILLPRIV,
	};
	struct fs *fs = userdata;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(unwanted); i++)
		want_not(conn, unwanted[i]);
	for (i = 0; i < ARRAY_SIZE(wanted); i++)
		want(conn, wanted[i]);
	if (!has(conn, FUSE_CAP_WRITEBACK_CACHE))
		log_warn("the kernel offers no writeback cache, going on without");
	conn->max_write = REQUEST_BYTES_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX;
	conn->time_gran = 1;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	conn->no_interrupt = 1;
#endif
	atomic_store(&fs->inited, true);
}

/*
 * What is missing is answered with ENOSYS, once: then the kernel stops asking.
 * That is meant for flush (nothing to do at close), xattrs (asked for at each write
 * otherwise), access (default_permissions), copy_file_range (the kernel copies) and
 * lseek: the kernel does not write its dirty pages before it asks for SEEK_DATA, so
 * that cp would take data for a hole; left alone it calls all of a file data.
 */
static const struct fuse_lowlevel_ops fs_ops = {
	.init = on_init,
	.lookup = fs_lookup,
	.forget = fs_forget,
	.getattr = fs_getattr,
	.setattr = fs_setattr,
	.readlink = fs_readlink,
	.mknod = fs_mknod,
	.mkdir = fs_mkdir,
	.unlink = fs_unlink,
	.rmdir = fs_rmdir,
	.symlink = fs_symlink,
	.rename = fs_rename,
	.link = fs_link,
	.open = fs_open,
	.read = fs_read,
	.write = fs_write,
	.release = fs_release,
	.fsync = fs_fsync,
	.opendir = fs_opendir,
	.readdir = fs_readdir,
	.readdirplus = fs_readdirplus,
	.fsyncdir = fs_fsyncdir,
	.statfs = fs_statfs,
	.create = fs_create,
	.fallocate = fs_fallocate,
};

/* libfuse's own messages. */
static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
	PRINTF_LIKE(2, 0);

static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	CLEAN(clean_free) char *msg = NULL;
	size_t len;

	if (vasprintf(&msg, fmt, ap) < 0) {
		msg = NULL;
		return;
	}
	len = strlen(msg);
	if (len && msg[len - 1] == '\n')
		msg[len - 1] = '\0';
	log_write(level <= FUSE_LOG_ERR       ? LOG_LVL_ERROR
		  : level <= FUSE_LOG_WARNING ? LOG_LVL_WARN
					      : LOG_LVL_DEBUG,
		  "libfuse: %s", msg);
}

static int add_options(struct fuse_args *args, const char *source)
{
	CLEAN(clean_free) char *fsname = text_format("fsname=%s", source);
	CLEAN(clean_free) char *opts = NULL;

	if (!fsname || fuse_opt_add_opt_escaped(&opts, fsname) < 0 ||
	    fuse_opt_add_opt(&opts, "subtype=" MOUNT_SUBTYPE
				    ",default_permissions,noatime") < 0)
		return -ENOMEM;
	/* only root may open a mount to others without asking /etc/fuse.conf;
	 * fusermount3 sets nosuid and nodev by itself */
	if (geteuid() == 0 && fuse_opt_add_opt(&opts, "allow_other,nosuid,nodev") < 0)
		return -ENOMEM;
	if (fuse_opt_add_arg(args, MOUNT_SUBTYPE) < 0 ||
	    fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, opts) < 0)
		return -ENOMEM;
	return 0;
}

static int mount_it(struct fs_session *s, const char *source, struct err *e)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int rc = add_options(&args, source);

	if (rc == 0) {
		s->fs.se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), &s->fs);
		rc = s->fs.se ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	if (rc < 0)
		return err_set(e, rc, "cannot set up a FUSE session");
	if (fuse_session_mount(s->fs.se, s->mountpoint) < 0)
		return err_set(e, -EIO, "cannot mount at %s (the log says why)",
			       s->mountpoint);
	/* a server that inherited it would keep a dead mount alive */
	(void)fcntl(fuse_session_fd(s->fs.se), F_SETFD, FD_CLOEXEC);
	return 0;
}

int fs_session_mount(const char *mountpoint, const char *source,
		     struct fs_session **ret_session, struct err *e)
{
	struct fs_session *s;
	int rc = mountpoint_clear(mountpoint, e);

	if (rc < 0)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->mountpoint = strdup(mountpoint);
	s->fs.uid = geteuid();
	s->fs.gid = getegid();
	s->fs.mounted = time(NULL);
	(void)pthread_mutex_init(&s->fs.notify, NULL); /* cannot fail with NULL */
	fuse_set_log_func(on_fuse_log);
	rc = s->mountpoint ? mount_it(s, source, e)
			   : err_set(e, -ENOMEM, "out of memory");
	if (rc < 0) {
		fs_session_free(s);
		return rc;
	}
	*ret_session = s;
	return 0;
}

/* The second word of a request; it lies in memory, as splicing is switched off. */
static uint32_t opcode_of(const struct fuse_buf *buf)
{
	uint32_t opcode = 0;

	if (!(buf->flags & FUSE_BUF_IS_FD) && buf->size >= 2 * sizeof(opcode))
		memcpy(&opcode, (const char *)buf->mem + sizeof(opcode),
		       sizeof(opcode));
	return opcode;
}

/* Reads and handles one request; <= 0 when there is nothing more to come.  turns (may
 * be NULL) is counted up when that begins and when it is done. */
static int serve_one(struct fs_session *s, struct fuse_buf *buf, atomic_uint *turns)
{
	int rc = fuse_session_receive_buf(s->fs.se, buf);

	if (rc == -EINTR || rc == -EAGAIN)
		return fuse_session_exited(s->fs.se) ? 0 : 1;
	if (rc <= 0)
		return rc;
	reqstat_begin(opcode_of(buf));
	if (turns)
		atomic_fetch_add(turns, 1);
	fuse_session_process_buf(s->fs.se, buf);
	if (turns)
		atomic_fetch_add(turns, 1);
	reqstat_end();
	return rc;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct fs_session *s = w->session;
	struct fuse_buf buf;
	int rc = 1;

	memset(&buf, 0, sizeof(buf));
#ifdef PR_SET_IO_FLUSHER
	/* memory that is freed by writing to us must not wait for us; a property
	 * of the thread, and one that servers must not inherit */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* where it is permitted */
#endif
	while (rc > 0 && !fuse_session_exited(s->fs.se))
		rc = serve_one(s, &buf, &w->turns);
	if (rc < 0)
		log_error("reading requests failed: %s, ending the mount",
			  strerror(-rc));
	free(buf.mem);
	fs_file_end_thread();
	fuse_session_exit(s->fs.se);
	if (!atomic_load(&s->stopping) && !atomic_exchange(&s->told, true))
		s->gone(s->gone_ctx);
	return NULL;
}

static int answer_init(struct fs_session *s)
{
	struct fuse_buf buf;
	int rc = 1;

	memset(&buf, 0, sizeof(buf));
	/* newer libfuse may have done it while mounting */
	while (rc > 0 && !atomic_load(&s->fs.inited))
		rc = serve_one(s, &buf, NULL);
	free(buf.mem);
	return rc > 0 ? 0 : rc < 0 ? rc : -ENODEV;
}

static void on_signal_end(int sig)
{
	(void)sig;
}

/* Workers take no signal but the one that ends their read. */
static int start_workers(struct fs_session *s)
{
	struct sigaction sa;
	sigset_t all, old;
	int rc = 0;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal_end; /* no SA_RESTART: read gives EINTR */
	if (sigaction(SIGNAL_END, &sa, NULL) < 0)
		return -errno;
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGNAL_END);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	while (rc == 0 && s->thread_count < WORKERS) {
		struct worker *w = &s->workers[s->thread_count];

		w->session = s;
		rc = -pthread_create(&w->thread, NULL, work, w);
		if (rc == 0)
			s->thread_count++;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return s->thread_count ? 0 : rc;
}

/* What only the mount knows, for .metrics. */
static void render_metrics(void *ctx, struct metric_text *t)
{
	const struct fs_session *s = ctx;

	metric_family(t, METRIC_GAUGE, "pgbranchfs_open_handles",
		      "Files that are open in the mount.");
	metric_sample(t, handle_count(), NULL);
	metric_family(t, METRIC_GAUGE, "pgbranchfs_requests_waiting",
		      "Requests of the kernel that are answered later.");
	metric_sample(t, atomic_load(&s->fs.waits), NULL);
	reqstat_render(t);
}

int fs_session_start(struct fs_session *s, struct control *c, void (*gone)(void *ctx),
		     void *ctx, struct err *e)
{
	int rc;

	s->fs.control = c;
	s->fs.reg = control_registry(c);
	s->fs.fleet = control_fleet(c);
	metrics_set_source(control_metrics(c), render_metrics, s);
	s->gone = gone;
	s->gone_ctx = ctx;
	s->dev = mountpoint_dev(s->mountpoint);
	rc = guard_start(s->mountpoint, s->dev, &s->guard);
	if (rc < 0)
		return err_set(e, rc, "cannot start the guard of the mount: %s",
			       strerror(-rc));
	rc = answer_init(s);
	if (rc < 0)
		return err_set(e, rc, "the kernel did not open the mount: %s",
			       strerror(-rc));
	forget_start(&s->fs);
	rc = start_workers(s);
	if (rc < 0)
		return err_set(e, rc, "cannot start threads: %s", strerror(-rc));
	mountpoint_tune(s->dev);
	return 0;
}

bool fs_session_pulse(struct fs_session *s)
{
	bool alive = false;

	for (unsigned i = 0; i < s->thread_count; i++) {
		struct worker *w = &s->workers[i];
		unsigned turns = atomic_load(&w->turns);

		if (turns % 2 == 0 || turns != w->seen)
			alive = true;
		w->seen = turns;
	}
	return alive;
}

static void join_workers(struct fs_session *s, bool call_off)
{
	struct timespec until;
	unsigned i;

	for (i = 0; i < s->thread_count; i++) {
		if (!call_off) {
			(void)pthread_join(s->workers[i].thread, NULL);
			continue;
		}
		/* again and again: a signal just before the read is lost */
		do {
			(void)pthread_kill(s->workers[i].thread, SIGNAL_END);
			(void)clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += JOIN_STEP_NS;
			if (until.tv_nsec >= 1000000000) {
				until.tv_nsec -= 1000000000;
				until.tv_sec++;
			}
		} while (pthread_timedjoin_np(s->workers[i].thread, NULL, &until) ==
			 ETIMEDOUT);
	}
	s->thread_count = 0;
}

/* Has the kernel ended the connection? */
static bool has_ended(const struct fs_session *s)
{
	struct pollfd p = {.fd = fuse_session_fd(s->fs.se), .events = 0};
	int64_t until_ms = loop_now_ms() + END_PATIENCE_MS;
	int64_t left_ms = END_PATIENCE_MS;
	int rc;

	do {
		rc = poll(&p, 1, (int)left_ms);
		left_ms = until_ms - loop_now_ms();
	} while (rc < 0 && errno == EINTR && left_ms > 0);
	return rc == 1 && p.revents & POLLERR;
}

/*
 * Lets go of the device, which ends the connection.  What is at the mount point by now
 * is not ours: libfuse must only forget it, as it does when the device is in error.
 */
static void drop_device(struct fs_session *s)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;      /* the end of the session closes it */
	(void)close(fds[0]); /* its other end polls as an error now */
	if (dup3(fds[1], fuse_session_fd(s->fs.se), O_CLOEXEC) >= 0)
		fuse_session_unmount(s->fs.se);
	(void)close(fds[1]); /* the copy is libfuse's */
}

void fs_session_stop(struct fs_session *s)
{
	bool busy = false;
	int rc;

	if (s->stopped || !s->fs.se)
		return;
	s->stopped = true;
	atomic_store(&s->stopping, true);
	forget_stop(&s->fs); /* while there are workers, for whom it may wait */
	rc = s->thread_count ? mountpoint_detach(s->mountpoint, s->dev, &busy) : 0;
	if (rc < 0) {
		log_warn("cannot unmount %s: %s, leaving it dead", s->mountpoint,
			 strerror(-rc));
	} else if (s->thread_count && !busy && !has_ended(s)) {
		busy = true;
		log_warn(
			"%s lives on in another mount namespace, leaving it dead there",
			s->mountpoint);
	}
	if (rc < 0 || busy)
		fuse_session_exit(s->fs.se);
	join_workers(s, rc < 0 || busy);
	handle_close_all();
	dead_free_all();
	if (rc < 0 || busy)
		drop_device(s);
	else
		fuse_session_unmount(s->fs.se);
	s->guard = guard_stop(s->guard);
}

struct fs_session *fs_session_free(struct fs_session *s)
{
	if (!s)
		return NULL;
	fs_session_stop(s);
	if (atomic_load(&s->fs.waits)) {
		/* somebody may still answer through it: it must not go away */
		log_warn("%u requests were not answered, leaving their memory",
			 atomic_load(&s->fs.waits));
		return NULL;
	}
	if (s->fs.se)
		fuse_session_destroy(s->fs.se);
	(void)pthread_mutex_destroy(&s->fs.notify);
	free(s->mountpoint);
	free(s);
	return NULL;
}

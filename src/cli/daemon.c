/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start order, and stop in reverse:
 *
 *   signals blocked -> config -> store -> fence -> loop, pool -> mount -> fleet
 *   -> control -> FUSE workers -> ready
 *
 * Signals are blocked before the first thread starts, so that every thread
 * inherits it and only the loop's signalfd sees them.  The servers stop while
 * the workers still serve: a server's last writes are requests to this mount.
 */
#include "cli/daemon.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/notify.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/mounts.h"
#include "ctl/config.h"
#include "ctl/control.h"
#include "ctl/sanitize.h"
#include "fs/session.h"
#include "pg/fleet.h"
#include "store/registry.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#define POOL_THREADS 4

struct daemon {
	const struct daemon_spec *spec;
	struct config *cfg;
	struct registry *registry;
	struct loop *loop;
	struct pool *pool;
	struct fs_session *session;
	struct fleet *fleet;
	struct control *control;
	uid_t run_as_uid;
	gid_t run_as_gid;
	int signal_fd, mounts_fd;
	struct loop_io *signal_io, *mounts_io;
	struct loop_timer *watchdog; /* NULL: nobody wants to hear of us */
	bool stopping;
	bool hangs; /* no worker answers */
};

static void block_signals(sigset_t *ret_set)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	(void)sigaction(SIGPIPE, &ignore, NULL); /* a client that hung up is EPIPE */
	(void)sigemptyset(ret_set);
	(void)sigaddset(ret_set, SIGTERM);
	(void)sigaddset(ret_set, SIGINT);
	(void)sigaddset(ret_set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, ret_set, NULL); /* cannot fail for these */
}

/* A store has many files open at once; the soft limit is made for programs that
 * use select(2). */
static void raise_file_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
		log_warn("cannot raise the limit of open files: %s; going on with less",
			 strerrordesc_np(errno));
}

/* A store without a file has the defaults, until somebody writes one. */
static int load_config(const struct daemon *d, struct config **ret_cfg, struct err *e)
{
	CLEAN(clean_free) char *own = NULL;

	if (d->spec->config_path)
		return config_load(d->spec->config_path, ret_cfg, e);
	own = text_format("%s/pgbranchfs.conf", d->spec->store);
	if (!own)
		return err_set(e, -ENOMEM, "out of memory");
	if (access(own, F_OK) < 0 && errno == ENOENT)
		return config_default(ret_cfg, e);
	return config_load(own, ret_cfg, e);
}

static int find_run_as(struct daemon *d, struct err *e)
{
	int rc;

	if (geteuid() != 0) {
		d->run_as_uid = geteuid();
		d->run_as_gid = getegid();
		return 0;
	}
	rc = cli_user(d->cfg->run_as, &d->run_as_uid, &d->run_as_gid, e);
	if (rc == 0 && d->run_as_uid == 0)
		rc = err_set(e, -EINVAL, "servers cannot run as root");
	if (rc < 0)
		return err_hint(e,
				"set run_as in [server] of the configuration to a user "
				"for the servers of root's branches");
	return 0;
}

static struct fleet_config fleet_config_of(const struct daemon *d)
{
	const struct config *cfg = d->cfg;

	return (struct fleet_config){
		.mountpoint = d->spec->mountpoint,
		.bin_dir = strcmp(cfg->bin_dir, "auto") == 0 ? NULL : cfg->bin_dir,
		.superuser = cfg->superuser,
		.settings = (const char *const *)cfg->settings,
		.run_as_uid = d->run_as_uid,
		.run_as_gid = d->run_as_gid,
		.privileged = geteuid() == 0,
		.idle_timeout_s = cfg->idle_timeout_s,
		.keep_idle_connections = strcmp(cfg->idle_connections, "keep") == 0,
		.start_timeout_s = cfg->start_timeout_s,
		.strict_roles = policy_hides(cfg->policies),
	};
}

static void tell_ready(const struct daemon *d)
{
	notify_send("READY=1\nSTATUS=%s is mounted at %s", d->spec->store,
		    d->spec->mountpoint);
}

static void daemon_reload(struct daemon *d)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct config *fresh = NULL, *old = d->cfg;
	struct fleet_config fleet_cfg;

	notify_reloading();
	if (load_config(d, &fresh, &e) < 0 || config_keep_fixed(fresh, old) < 0) {
		log_error("%s; keeping the settings as they were", err_text(&e));
		notify_send("READY=1\nSTATUS=The settings are as they were: %s",
			    err_text(&e));
		(void)config_free(fresh); /* returns NULL */
		return;
	}
	d->cfg = fresh;
	fleet_cfg = fleet_config_of(d);
	fleet_configure(d->fleet, &fleet_cfg);
	control_configure(d->control, fresh);
	(void)config_free(old); /* nobody borrows it any more */
	log_info("the configuration was read again");
	tell_ready(d);
}

static void fleet_is_down(void *ctx, int rc, const struct err *e)
{
	struct daemon *d = ctx;

	if (rc < 0)
		log_error("cannot stop all servers: %s; unmounting all the same",
			  err_text(e));
	loop_stop(d->loop);
}

static void daemon_stop(struct daemon *d, const char *why)
{
	if (d->stopping)
		return;
	d->stopping = true;
	log_info("%s: stopping all servers", why);
	notify_send("STOPPING=1\nSTATUS=Stopping all servers: %s", why);
	sanitize_stop(control_sanitize(d->control));
	fleet_shutdown(d->fleet, fleet_is_down, d);
}

static void on_signal(void *ctx, uint32_t events)
{
	struct daemon *d = ctx;
	struct signalfd_siginfo si;

	(void)events; /* only EPOLLIN is watched */
	while (read(d->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo == SIGHUP && !d->stopping)
			daemon_reload(d);
		else if (si.ssi_signo != SIGHUP)
			daemon_stop(d, "got a signal to end");
	}
}

/* The loop runs, or this would not; the workers have to answer. */
static void on_watchdog(void *ctx)
{
	struct daemon *d = ctx;
	bool alive = fs_session_pulse(d->session);

	if (alive)
		notify_send("WATCHDOG=1");
	else if (!d->hangs)
		log_error("no worker of the mount answers; the service manager will "
			  "end this process if that goes on");
	d->hangs = !alive;
	/* one that was missed is not the end */
	loop_timer_arm(d->watchdog, notify_watchdog_ms() / 2);
}

static int start_watchdog(struct daemon *d, struct err *e)
{
	int rc;

	if (notify_watchdog_ms() == 0)
		return 0;
	rc = loop_timer_new(d->loop, on_watchdog, d, &d->watchdog);
	if (rc < 0)
		return err_set(e, rc, "out of memory");
	loop_timer_arm(d->watchdog, 0);
	return 0;
}

static void mount_is_gone(void *ctx)
{
	daemon_stop(ctx, "unmounted from outside");
}

/* On a FUSE worker. */
static void on_gone(void *ctx)
{
	struct daemon *d = ctx;

	/* without memory for the call a signal does the same */
	if (loop_post(d->loop, mount_is_gone, d) < 0)
		(void)kill(getpid(), SIGTERM); /* never fails for oneself */
}

static int watch_signals(struct daemon *d, const sigset_t *set, struct err *e)
{
	int rc;

	d->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	rc = d->signal_fd < 0 ? -errno
			      : loop_io_new(d->loop, d->signal_fd, EPOLLIN, on_signal,
					    d, &d->signal_io);
	return rc < 0 ? err_set(e, rc, "cannot watch signals: %s", strerrordesc_np(-rc))
		      : 0;
}

/*
 * umount -l takes the tree out of sight at once, but the kernel ends the mount only
 * when nobody is in it any more, and the servers are.
 */
static bool is_listed(const struct daemon *d)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;

	return mounts_load(&list, NULL) < 0 ||
	       mounts_find(&list, d->spec->mountpoint) != NULL;
}

static void on_mounts(void *ctx, uint32_t events)
{
	struct daemon *d = ctx;

	(void)events; /* it is one: the list has changed */
	if (!d->stopping && !is_listed(d))
		mount_is_gone(d);
}

static int watch_mounts(struct daemon *d, struct err *e)
{
	int rc;

	if (!is_listed(d)) /* under another path than ours, as in a container */
		return 0;
	d->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	rc = d->mounts_fd < 0 ? -errno
			      : loop_io_new(d->loop, d->mounts_fd, EPOLLPRI, on_mounts,
					    d, &d->mounts_io);
	return rc < 0 ? err_set(e, rc, "cannot watch the list of mounts: %s",
				strerrordesc_np(-rc))
		      : 0;
}

static int open_store(struct daemon *d, struct err *e)
{
	int rc = load_config(d, &d->cfg, e);

	if (rc == 0)
		rc = find_run_as(d, e);
	if (rc == 0)
		rc = registry_open(d->spec->store, &d->registry, e);
	if (rc == 0)
		rc = fleet_fence(d->registry, e);
	return rc;
}

static void client_refused(void *ctx, uid_t uid, const struct err *e)
{
	const struct daemon *d = ctx;

	control_note_error(d->control, uid, e);
}

static int daemon_start(struct daemon *d, const sigset_t *signals, struct err *e)
{
	struct fleet_config fleet_cfg;
	int rc = open_store(d, e);

	if (rc < 0)
		return rc;
	rc = loop_new(&d->loop);
	if (rc == 0)
		rc = pool_new(POOL_THREADS, &d->pool);
	if (rc < 0)
		return err_set(e, rc, "cannot start threads: %s", strerrordesc_np(-rc));
	rc = watch_signals(d, signals, e);
	if (rc == 0)
		rc = fs_session_mount(d->spec->mountpoint, d->spec->store, &d->session,
				      e);
	if (rc < 0)
		return rc;
	fleet_cfg = fleet_config_of(d);
	rc = fleet_new(d->loop, d->pool, d->registry, &fleet_cfg, &d->fleet, e);
	if (rc == 0)
		rc = control_new(d->loop, d->pool, d->registry, d->fleet, d->cfg,
				 d->spec->mountpoint, geteuid(), &d->control, e);
	if (rc == 0)
		fleet_on_refusal(d->fleet, client_refused, d);
	if (rc == 0)
		rc = watch_mounts(d, e);
	if (rc == 0)
		rc = fs_session_start(d->session, d->control, on_gone, d, e);
	if (rc == 0)
		rc = start_watchdog(d, e);
	return rc;
}

/* Also undoes a start that stopped half way. */
static void daemon_fini(struct daemon *d)
{
	if (d->session)
		fs_session_stop(d->session);
	if (d->control)
		control_drain(d->control);
	d->pool = pool_free(d->pool);
	d->session = fs_session_free(d->session);
	d->control = control_free(d->control);
	d->fleet = fleet_free(d->fleet);
	d->registry = registry_close(d->registry);
	d->signal_io = loop_io_free(d->signal_io);
	d->mounts_io = loop_io_free(d->mounts_io);
	d->watchdog = loop_timer_free(d->watchdog);
	d->loop = loop_free(d->loop);
	clean_fd(&d->signal_fd);
	clean_fd(&d->mounts_fd);
	d->cfg = config_free(d->cfg);
}

int daemon_run(const struct daemon_spec *spec, void (*ready)(void *ctx), void *ctx,
	       struct err *e)
{
	struct daemon d = {.spec = spec, .signal_fd = -1, .mounts_fd = -1};
	sigset_t signals;
	int rc;

	block_signals(&signals);
	raise_file_limit();
	(void)umask(0); /* the kernel has applied the clients' own */
	/* PID 1 may reap an orphan late, and a dead server then looks alive */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		log_warn("cannot become a subreaper: %s; going on without",
			 strerrordesc_np(errno));
	notify_send("STATUS=Looking for servers of an earlier mount");
	rc = daemon_start(&d, &signals, e);
	if (rc == 0) {
		log_info("store %s is mounted at %s", spec->store, spec->mountpoint);
		tell_ready(&d);
		ready(ctx);
		rc = loop_run(d.loop);
		if (rc < 0)
			(void)err_set(e, rc, "the event loop failed: %s",
				      strerrordesc_np(-rc));
	}
	if (rc < 0)
		notify_send("STATUS=%s", err_text(e));
	daemon_fini(&d);
	if (rc == 0)
		log_info("store %s is unmounted", spec->store);
	return rc;
}

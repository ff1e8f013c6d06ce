/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmserver.c - a server as a process: started, seen to be ready, prepared, stopped,
 * and buried.
 *
 *	open (doorman) -> plan (pool) -> spawn -> "ready" in postmaster.pid
 *	prepare (pool) -> started
 *	stop: SIGINT, then SIGQUIT, then SIGKILL, each with a deadline
 *
 * A child is spawned on the loop thread, because the parent-death signal follows
 * the thread that made it.  A postmaster that died by a signal may leave processes
 * that still write; the run is over only when these are gone (fence.h).
 */
#include "base/fd.h"
#include "base/log.h"
#include "pg/fence.h"
#include "pg/pgexec.h"
#include "pg/postmaster_priv.h"
#include "pg/prepare.h"
#include "pg/startplan.h"
#include "pg/subscan.h"
#include "store/overlay.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FAST_PATIENCE_MS 60000
#define IMMEDIATE_PATIENCE_MS 10000
#define KILL_PATIENCE_MS 10000
#define START_TIMEOUT_MAX_S 86400
#define SMALL_FILE 4096
#define LOG_TAIL (64 << 10)

/* A job of a run: the pool half fills in the result, the loop half takes it. */
struct job {
	struct postmaster *pm;
	uint64_t run;
	void (*work)(struct job *j);
	void (*done)(struct job *j);
	int rc;
	struct err err;
	/* in */
	struct fleet_conf *conf;
	struct rundir *rd;
	int major;
	bool subscriptions, promote, first;
	uint32_t orphan_key;
	int orphan_id;
	/* out */
	struct start_plan plan;
	PGconn *conn;
};

static int start_timeout_ms(const struct fleet_conf *c)
{
	uint64_t s = c->start_timeout_s ? c->start_timeout_s : 60;

	return s > START_TIMEOUT_MAX_S ? START_TIMEOUT_MAX_S * 1000 : (int)s * 1000;
}

static void job_free(struct job *j)
{
	err_fini(&j->err);
	(void)fleet_conf_put(j->conf);
	(void)rundir_put(j->rd);
	start_plan_fini(&j->plan);
	pgconn_clean(&j->conn);
	free(j);
}

static void job_finish(void *ctx)
{
	struct job *j = ctx;
	struct postmaster *pm = j->pm;

	pm->busy--;
	j->done(j);
	job_free(j);
	if (pm->begin_pending && !pm->busy) {
		pm->begin_pending = false;
		pm_server_begin(pm);
	}
	fleet_job_done(pm->fleet);
}

static void job_run(void *ctx)
{
	struct job *j = ctx;

	j->work(j);
	doorman_post(j->pm->fleet->loop, job_finish, j);
}

/* NULL when out of memory. */
static struct job *job_new(struct postmaster *pm, void (*work)(struct job *j),
			   void (*done)(struct job *j))
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->pm = pm;
	j->run = pm->run;
	j->work = work;
	j->done = done;
	j->plan = (struct start_plan)START_PLAN_INIT;
	j->conf = fleet_conf_get(pm->conf);
	j->rd = pm->rd ? rundir_get(pm->rd) : NULL;
	j->major = pm->major;
	return j;
}

/* Posts j, or frees it. */
static int job_post(struct job *j)
{
	struct postmaster *pm = j->pm;
	int rc;

	rc = fleet_job(pm->fleet, job_run, j);
	if (rc < 0)
		job_free(j);
	else
		pm->busy++;
	return rc;
}

/* Is this still the start that the job was for? */
static bool job_is_current(const struct job *j)
{
	return j->run == j->pm->run && j->pm->state == PM_STARTING;
}

void pm_server_release(struct postmaster *pm)
{
	loop_timer_arm(pm->deadline, -1);
	pm->exit_io = loop_io_free(pm->exit_io);
	pm->mon = monitor_put(pm->mon);
	pm->rd = rundir_put(pm->rd);
	pm->conf = fleet_conf_put(pm->conf);
	pm->server_fid = 0;
	pm->ready = false;
	pm->step = STOP_NONE;
	pm->shm_key = 0;
}

/* ---- burial ---- */

static void bury_work(struct job *j)
{
	j->rc = fence_end_orphans(j->orphan_key, j->orphan_id, &j->err);
}

static void finish_run(struct postmaster *pm, struct err *e)
{
	fence_forget(pm->fleet->reg, pm->slot->no);
	pm->slot->orphan_key = 0;
	pm_ended(pm, e);
}

/* Is it a server of ours, whose end is (or will be) seen by its pidfd? */
static bool is_server(void *ctx, pid_t pid)
{
	const struct fleet *f = ctx;

	for (const struct postmaster *pm = f->pms; pm; pm = pm->next)
		if (pm->proc.pid == pid)
			return true;
	return false;
}

static void bury_done(struct job *j)
{
	struct postmaster *pm = j->pm;
	struct err e = ERR_INIT;

	fence_reap_adopted(is_server, pm->fleet);
	if (j->rc < 0) {
		/* the note stays, and the next start has to try again */
		pm_ended(pm, &j->err);
		return;
	}
	err_move(&e, &pm->failure);
	finish_run(pm, &e);
	err_fini(&e);
}

/* The postmaster died by a signal: its children may live on. */
static void bury(struct postmaster *pm)
{
	struct job *j;

	pm->slot->orphan_key = pm->shm_key;
	pm->slot->orphan_id = pm->shm_id;
	j = job_new(pm, bury_work, bury_done);
	if (j) {
		j->orphan_key = pm->shm_key;
		j->orphan_id = pm->shm_id;
	}
	if (!j || job_post(j) < 0) {
		(void)err_set(&pm->failure, -ENOMEM, "out of memory");
		pm_ended(pm, &pm->failure);
		err_fini(&pm->failure);
	}
}

/* ---- the end of the process ---- */

/* What the server wrote to its log in this run; NULL if nothing. */
static char *log_reason(struct postmaster *pm)
{
	CLEAN(clean_fd) int fd = branch_log_open(pm->branch, O_RDONLY);
	CLEAN(clean_free) char *text = malloc(LOG_TAIL + 1);
	uint64_t off = pm->log_off;
	struct stat st;
	ssize_t n;

	if (fd < 0 || !text || fstat(fd, &st) < 0)
		return NULL;
	if ((uint64_t)st.st_size > off + LOG_TAIL)
		off = (uint64_t)st.st_size - LOG_TAIL;
	n = fd_pread_full(fd, text, LOG_TAIL, off);
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	return pgexec_log_reason(text);
}

/* Sets pm->failure to how it ended, unless that was asked for. */
static void judge_end(struct postmaster *pm, int status)
{
	CLEAN(clean_free) char *why = NULL;

	if (pm->failure.code || pm->step != STOP_NONE ||
	    (pm->state == PM_RUNNING && WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	why = log_reason(pm);
	if (WIFSIGNALED(status))
		(void)err_set(&pm->failure, -EIO, "the server was killed by signal %d",
			      WTERMSIG(status));
	else
		(void)err_set(&pm->failure, -EIO, "%s",
			      why ? why : "the server ended without a message");
}

static void on_exit_io(void *ctx, uint32_t events)
{
	struct postmaster *pm = ctx;
	int status = 0, rc;
	struct err e = ERR_INIT;
	char name[64];

	(void)events; /* a pidfd has only one thing to say */
	pm->exit_io = loop_io_free(pm->exit_io);
	rc = proc_reap(&pm->proc, &status);
	if (rc < 0)
		log_error("branch %s: cannot take the status of its server: %s, taking "
			  "it as killed",
			  pm_name(pm, name), strerrordesc_np(-rc));
	clean_fd(&pm->proc.pidfd);
	pm->proc = (struct proc){0, -1};
	judge_end(pm, status);
	loop_timer_arm(pm->deadline, -1);
	pm_idle_end(pm);
	if (pm->state != PM_STOPPING)
		pm_move(pm, PM_STOPPING, pm->failure.code ? pm->failure.msg : NULL);
	if ((rc < 0 || WIFSIGNALED(status)) && pm->shm_key) {
		bury(pm);
		return;
	}
	err_move(&e, &pm->failure);
	finish_run(pm, &e);
	err_fini(&e);
}

static const struct {
	int sig;
	const char *name;
	int patience_ms;
} steps[] = {
	[STOP_FAST] = {SIGINT, "fast", FAST_PATIENCE_MS},
	[STOP_IMMEDIATE] = {SIGQUIT, "immediate", IMMEDIATE_PATIENCE_MS},
	[STOP_KILL] = {SIGKILL, "kill", KILL_PATIENCE_MS},
};

void pm_server_stop(struct postmaster *pm, enum stop_step step)
{
	char name[64];
	int rc;

	if (pm->state != PM_STOPPING) {
		pm_idle_end(pm);
		pm_move(pm, PM_STOPPING, pm->failure.code ? pm->failure.msg : NULL);
	}
	if (pm->step >= step || !pm->proc.pid)
		return;
	if (pm->step != STOP_NONE)
		log_warn("branch %s: its server did not stop, trying %s shutdown",
			 pm_name(pm, name), steps[step].name);
	pm->step = step;
	rc = proc_kill(&pm->proc, steps[step].sig);
	if (rc < 0 && rc != -ESRCH)
		log_error(
			"branch %s: cannot signal its server: %s, waiting for its end",
			pm_name(pm, name), strerrordesc_np(-rc));
	loop_timer_arm(pm->deadline, steps[step].patience_ms);
}

void pm_server_deadline(void *ctx)
{
	struct postmaster *pm = ctx;
	char name[64];

	if (pm->state == PM_STARTING) {
		(void)err_set(&pm->failure, -ETIMEDOUT,
			      "the server was not ready within %d s",
			      start_timeout_ms(pm->conf) / 1000);
		pm_server_stop(pm, STOP_FAST);
	} else if (pm->state == PM_STOPPING && pm->step < STOP_KILL) {
		pm_server_stop(pm, pm->step + 1);
	} else if (pm->state == PM_STOPPING) {
		log_error("branch %s: its server (pid %d) does not end after SIGKILL, "
			  "waiting",
			  pm_name(pm, name), (int)pm->proc.pid);
	}
}

/* ---- readiness ---- */

static void fail_running_start(struct postmaster *pm, struct err *e)
{
	err_move(&pm->failure, e);
	pm_server_stop(pm, STOP_FAST);
}

static int find_socket(struct postmaster *pm, struct err *e)
{
	struct node_attr attr;
	int rc = overlay_lookup(rundir_run(pm->rd), OVERLAY_ROOT, PGEXEC_SOCKET, &attr);

	if (rc < 0)
		return err_set(e, rc, "the server is ready but has no socket: %s",
			       strerrordesc_np(-rc));
	pm->server_fid = attr.fid;
	return 0;
}

/* The last step of a start; conn may be NULL. */
static void serve(struct postmaster *pm, PGconn *conn)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	int rc;

	rc = monitor_new(pm->rd, pm->conf->superuser, pm->major, conn, &pm->mon);
	if (rc < 0)
		(void)err_set(&e, rc, "out of memory");
	else
		rc = find_socket(pm, &e);
	if (rc < 0) {
		fail_running_start(pm, &e);
		return;
	}
	loop_timer_arm(pm->deadline, -1);
	pm_started(pm);
}

/* Is there nothing to do in the server but to note that?  Recovery is over. */
static bool is_prepared(const struct job *j)
{
	return !j->promote && subscan_none(rundir_data(j->rd));
}

static void prepare_work(struct job *j)
{
	struct prepare_spec spec = {
		.conn = {j->rd, j->conf->superuser, j->major},
		.subscriptions = j->subscriptions,
		.promote = j->promote,
		.timeout_ms = start_timeout_ms(j->conf),
	};

	if (!is_prepared(j))
		j->rc = prepare_run(&spec, &j->conn, &j->err);
	if (j->rc == 0 && j->subscriptions)
		j->rc = branch_set_flag(j->pm->branch, BRANCH_PREPARED, true, &j->err);
}

static void prepare_done(struct job *j)
{
	struct postmaster *pm = j->pm;

	if (!job_is_current(j))
		return;
	if (j->rc < 0) {
		(void)err_wrap(&j->err, j->rc, "cannot prepare the branch");
		fail_running_start(pm, &j->err);
		return;
	}
	serve(pm, steal(j->conn));
}

static void prepare(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct job *j;
	int rc = -ENOMEM;

	j = job_new(pm, prepare_work, prepare_done);
	if (j) {
		j->subscriptions = pm->subscriptions;
		j->promote = pm->promote;
		rc = job_post(j);
	}
	if (rc < 0) {
		(void)err_set(&e, rc, "out of memory");
		fail_running_start(pm, &e);
	}
}

static void note_segment(struct postmaster *pm, const struct pgexec_pidfile *pf)
{
	char name[64];
	int rc;

	if (!pf->shm_key || (pf->shm_key == pm->shm_key && pf->shm_id == pm->shm_id))
		return;
	pm->shm_key = pf->shm_key;
	pm->shm_id = pf->shm_id;
	rc = fence_note(pm->fleet->reg, pm->slot->no, pm->proc.pid, pm->shm_key,
			pm->shm_id);
	if (rc < 0)
		log_warn(
			"branch %s: cannot note its server's memory segment: %s, going "
			"on",
			pm_name(pm, name), strerrordesc_np(-rc));
}

/* postmaster.pid was written: is the server ready? */
static void look_at_pidfile(struct postmaster *pm)
{
	CLEAN(clean_free) char *text = NULL;
	struct pgexec_pidfile pf;

	if (!pm->proc.pid ||
	    overlay_read_file(rundir_data(pm->rd), "postmaster.pid", SMALL_FILE, &text,
			      NULL) < 0 ||
	    pgexec_parse_pidfile(text, &pf) < 0 || pf.pid != pm->proc.pid)
		return;
	note_segment(pm, &pf);
	if (pm->state != PM_STARTING || pm->ready || !pf.ready)
		return;
	pm->ready = true;
	pm->promote = pm->promote || pf.standby;
	if (pm->subscriptions || pm->promote)
		prepare(pm);
	else
		serve(pm, NULL);
}

static void pidfile_posted(void *ctx)
{
	struct slot *s = ctx;

	atomic_store(&s->pid_posted, false);
	if (s->pm)
		look_at_pidfile(s->pm);
}

/* On the thread that wrote; a slot is there as long as the fleet. */
static void pidfile_written(void *ctx)
{
	struct slot *s = ctx;

	if (!atomic_exchange(&s->pid_posted, true))
		doorman_post(s->fleet->loop, pidfile_posted, s);
}

/* ---- the start ---- */

static int spawn(struct postmaster *pm, struct start_plan *plan, struct err *e)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	char name[64];
	int rc;

	pm->slot->ran = true;
	spec.argv = plan->argv;
	spec.envp = plan->envp;
	if (pm->conf->privileged) {
		spec.uid = plan->uid;
		spec.gid = plan->gid;
	}
	spec.cwd = plan->cwd;
	spec.death_signal = SIGQUIT;
	spec.stdout_fd = plan->log_fd;
	spec.new_group = true;
	rc = proc_spawn(&spec, &pm->proc);
	if (rc < 0)
		return err_set(e, rc, "cannot run '%s': %s", plan->argv[0],
			       strerrordesc_np(-rc));
	rc = fence_note(pm->fleet->reg, pm->slot->no, pm->proc.pid, 0, 0);
	if (rc < 0)
		log_warn("branch %s: cannot note its server's pid: %s, going on",
			 pm_name(pm, name), strerrordesc_np(-rc));
	rc = loop_io_new(pm->fleet->loop, pm->proc.pidfd, EPOLLIN, on_exit_io, pm,
			 &pm->exit_io);
	if (rc == 0)
		return 0;
	/* nobody would see its end: end it here and now */
	(void)!proc_kill(&pm->proc, SIGKILL);
	(void)!proc_wait(&pm->proc, KILL_PATIENCE_MS, &(int){0});
	fence_forget(pm->fleet->reg, pm->slot->no);
	return err_set(e, rc, "cannot watch the server: %s", strerrordesc_np(-rc));
}

static void plan_work(struct job *j)
{
	const struct start_spec spec = {
		.branch = j->pm->branch,
		.rd = j->rd,
		.conf = j->conf,
		.store_path = registry_path(j->pm->fleet->reg),
		.first = j->first,
		.written = pidfile_written,
		.ctx = j->pm->slot,
	};

	j->rc = fence_end_orphans(j->orphan_key, j->orphan_id, &j->err);
	if (j->rc < 0)
		return;
	j->rc = start_plan_make(&spec, &j->plan, &j->err);
}

static void plan_done(struct job *j)
{
	struct postmaster *pm = j->pm;

	if (!job_is_current(j))
		return;
	if (j->rc == 0) {
		pm->slot->orphan_key = 0;
		pm->major = j->plan.major;
		pm->log_off = j->plan.log_off;
		pm->subscriptions = j->plan.subscriptions;
		pm->promote = j->plan.promote;
		pm->rd = rundir_get(j->rd);
		j->rc = spawn(pm, &j->plan, &j->err);
	}
	if (j->rc < 0) {
		pm_ended(pm, &j->err);
		return;
	}
	pm_publish(pm);
	loop_timer_arm(pm->deadline, start_timeout_ms(pm->conf));
}

/* On the loop: the job has its run directory, so the pool may go on. */
static void run_dir_opened(void *ctx, int rc, struct rundir *rd)
{
	struct job *j = ctx;

	if (rc < 0) {
		j->rc = err_set(&j->err, rc,
				"cannot open its directories in the mount: %s",
				strerrordesc_np(-rc));
	} else if (!job_is_current(j)) {
		j->rc = -ECANCELED;
	} else {
		j->rd = rundir_get(rd);
		if (pool_post(j->pm->fleet->pool, job_run, j) == 0)
			return;
		j->rc = err_set(&j->err, -ENOMEM, "out of memory");
	}
	job_finish(j);
}

/* Posts j, or frees it, as job_post: the doorman comes first. */
static int job_post_opened(struct job *j)
{
	struct postmaster *pm = j->pm;
	struct fleet *f = pm->fleet;
	int rc;

	rc = doorman_open(f->doorman, f->dirs, pm->branch, run_dir_opened, j);
	if (rc < 0) {
		job_free(j);
		return rc;
	}
	pm->busy++;
	f->jobs++;
	return 0;
}

void pm_server_begin(struct postmaster *pm)
{
	CLEAN(err_fini) struct err e = ERR_INIT;
	struct job *j;
	int rc = -ENOMEM;

	if (pm->busy) {
		pm->begin_pending = true;
		return;
	}
	pm->run++;
	err_fini(&pm->failure);
	(void)fleet_conf_put(pm->conf);
	pm->conf = fleet_conf_now(pm->fleet);
	j = job_new(pm, plan_work, plan_done);
	if (j) {
		j->first = !pm->slot->ran;
		j->orphan_key = pm->slot->orphan_key;
		j->orphan_id = pm->slot->orphan_id;
		rc = job_post_opened(j);
	}
	if (rc < 0) {
		(void)err_set(&e, rc, "out of memory");
		pm_ended(pm, &e);
	}
}

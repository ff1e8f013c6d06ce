/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pmserver.c - a server as a process: spawned, stopped, and buried.
 *
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
#include "pg/pmjob.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FAST_PATIENCE_MS 60000
#define IMMEDIATE_PATIENCE_MS 10000
#define KILL_PATIENCE_MS 10000
#define LOG_TAIL (64 << 10)

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

static void bury_work(struct pm_job *j)
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

static void bury_done(struct pm_job *j)
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
	struct pm_job *j;

	pm->slot->orphan_key = pm->shm_key;
	pm->slot->orphan_id = pm->shm_id;
	j = pm_job_new(pm, bury_work, bury_done);
	if (j) {
		j->orphan_key = pm->shm_key;
		j->orphan_id = pm->shm_id;
	}
	if (!j || pm_job_post(j) < 0) {
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
	struct proc dead = pm->proc;
	int status = 0, rc;
	struct err e = ERR_INIT;
	char name[64];

	(void)events; /* a pidfd has only one thing to say */
	pm->exit_io = loop_io_free(pm->exit_io);
	pm->proc = (struct proc){0, -1};
	pm_publish(pm); /* others look at the pidfd as long as it is there */
	rc = proc_reap(&dead, &status);
	if (rc < 0)
		log_error("branch %s: cannot take the status of its server: %s, taking "
			  "it as killed",
			  pm_name(pm, name), strerrordesc_np(-rc));
	clean_fd(&dead.pidfd);
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
			      pm_start_timeout_ms(pm->conf) / 1000);
		pm_server_stop(pm, STOP_FAST);
	} else if (pm->state == PM_STOPPING && pm->step < STOP_KILL) {
		pm_server_stop(pm, pm->step + 1);
	} else if (pm->state == PM_STOPPING) {
		log_error("branch %s: its server (pid %d) does not end after SIGKILL, "
			  "waiting",
			  pm_name(pm, name), (int)pm->proc.pid);
	}
}

void postmaster_roles_changed(struct postmaster *pm)
{
	struct fleet_conf *conf = fleet_conf_now(pm->fleet);
	CLEAN(err_fini) struct err e = ERR_INIT;
	char name[64];
	unsigned version;
	int rc = 0;

	if (pm->rd && pm->proc.pid)
		rc = fleet_write_roles(pm->fleet, pm->slot, pm->branch,
				       rundir_run(pm->rd), conf, &version, &e);
	(void)fleet_conf_put(conf);
	if (!pm->rd || !pm->proc.pid)
		return;
	if (rc < 0)
		log_warn("branch %s: %s; its users stay as they were until its server "
			 "starts again",
			 pm_name(pm, name), err_text(&e));
	else
		(void)!proc_kill(&pm->proc, SIGHUP); /* its end is seen elsewhere */
}

/* ---- its beginning ---- */

int pm_server_spawn(struct postmaster *pm, struct start_plan *plan, struct err *e)
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
	pm_time(pm, PM_TIME_EXEC);
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

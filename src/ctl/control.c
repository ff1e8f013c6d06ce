/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The object behind all requests, and the way of one request:
 *
 *   any thread:  parse, authorise, claim --.
 *   pool:        records on disk          <+-> loop: the fleet's servers
 *   any thread:  request_finish: .error, log, done
 *
 * A branch that is being discarded, renamed or started is claimed; a second
 * change of it fails with EBUSY instead of waiting, because the waiter would
 * hold a client in an uninterruptible system call.
 */
#include "ctl/control.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/self.h"
#include "base/text.h"
#include "ctl/autocheckpoint.h"
#include "ctl/expiry.h"
#include "ctl/quota.h"
#include "ctl/request.h"
#include "ctl/sanitize.h"
#include "store/chill.h"
#include "store/squash.h"

#include <assert.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static void control_freep(struct control **c)
{
	*c = control_free(*c);
}

/* What was written and not fsynced is durable after so long. */
#define UPKEEP_MS 10000
/*
 * How long a branch that nobody uses stays in memory, at most: to load it again takes
 * some milliseconds, and who looks at a branch often does so again.  Where servers are
 * stopped sooner than that, memory is wanted back sooner, too.
 */
#define REST_MAX_S 60

static int64_t rest_ms(struct control *c)
{
	uint64_t s;

	LOCK_SCOPE(&c->lock);
	s = c->cfg->idle_timeout_s;
	return (s > 0 && s < REST_MAX_S ? (int64_t)s : REST_MAX_S) * 1000;
}

static void upkeep_due(void *ctx)
{
	struct control *c = ctx;
	int64_t half_ms = rest_ms(c) / 2;

	control_upkeep(c);
	loop_timer_arm(c->upkeep_timer, half_ms < UPKEEP_MS ? half_ms : UPKEEP_MS);
}

int control_new(struct loop *l, struct pool *p, struct registry *r, struct fleet *f,
		const struct config *cfg, const char *mountpoint, uid_t mount_owner,
		struct control **ret_control, struct err *e)
{
	CLEAN(control_freep) struct control *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	if (!c)
		return err_set(e, rc, "out of memory");
	(void)pthread_mutex_init(&c->lock, NULL); /* cannot fail with NULL */
	c->loop = l;
	c->pool = p;
	c->registry = r;
	c->fleet = f;
	c->cfg = cfg;
	c->mount_owner = mount_owner;
	c->privileged = geteuid() == 0;
	c->mountpoint = strdup(mountpoint);
	c->superuser = strdup(cfg->superuser);
	if (c->mountpoint && c->superuser)
		rc = errors_new(&c->errors);
	if (rc == 0)
		rc = metrics_new(r, f, c->mountpoint, &c->metrics);
	if (rc == 0)
		rc = loop_timer_new(l, upkeep_due, c, &c->upkeep_timer);
	if (rc == 0)
		rc = expiry_new(c, &c->expiry);
	if (rc == 0)
		rc = autocheckpoint_new(c, &c->autocheckpoint);
	if (rc == 0)
		rc = quota_new(c, &c->quota);
	if (rc == 0)
		rc = sanitize_new(c, &c->sanitize);
	if (rc == 0)
		rc = pool_new(1, &c->switches);
	if (rc < 0)
		return err_set(e, rc, "cannot start: %s", strerrordesc_np(-rc));
	rc = audit_open(registry_dirfd(r), registry_path(r), &c->audit);
	if (rc < 0) {
		(void)err_set(e, rc, "%s/" AUDIT_FILE ": cannot open: %s",
			      registry_path(r), strerrordesc_np(-rc));
		(void)err_hint(e, "nothing can be changed without a record of it: move "
				  "what is there out of the way");
		return rc;
	}
	/* a daemon that was killed may have left something to free */
	upkeep_due(c);
	*ret_control = steal(c);
	return 0;
}

void control_configure(struct control *c, const struct config *cfg)
{
	{
		LOCK_SCOPE(&c->lock);
		c->cfg = cfg;
	}
	audit_reopen(c->audit);
	expiry_soon(c); /* the trash may be kept for less long */
	autocheckpoint_soon(c->autocheckpoint);
}

struct sanitize *control_sanitize(struct control *c)
{
	return c->sanitize;
}

void control_drain(struct control *c)
{
	sanitize_drain(c->sanitize);
	c->switches = pool_free(c->switches);
}

struct control *control_free(struct control *c)
{
	int saved = errno;

	if (!c)
		return NULL;
	c->switches = pool_free(c->switches);
	(void)autocheckpoint_free(c->autocheckpoint); /* returns NULL */
	(void)expiry_free(c->expiry);                 /* returns NULL */
	(void)sanitize_free(c->sanitize);             /* returns NULL */
	(void)quota_free(c->quota);                   /* returns NULL */
	(void)loop_timer_free(c->upkeep_timer);       /* returns NULL */
	(void)errors_free(c->errors);                 /* returns NULL */
	(void)metrics_free(c->metrics);               /* returns NULL */
	(void)audit_close(c->audit);                  /* returns NULL */
	(void)pthread_mutex_destroy(&c->lock);        /* nobody holds it */
	free(c->answer);
	free(c->mountpoint);
	free(c->superuser);
	free(c);
	errno = saved;
	return NULL;
}

void control_note_error(struct control *c, uid_t uid, const struct err *e)
{
	errors_note(c->errors, uid, e, time(NULL));
}

char *control_error_text(struct control *c, uid_t uid)
{
	return errors_text(c->errors, uid);
}

char *control_default_parent(struct control *c)
{
	LOCK_SCOPE(&c->lock);
	return strdup(c->cfg->default_parent);
}

uid_t control_mount_owner(const struct control *c)
{
	return c->mount_owner;
}

const char *control_superuser(const struct control *c)
{
	return c->superuser;
}

struct registry *control_registry(struct control *c)
{
	return c->registry;
}

struct fleet *control_fleet(struct control *c)
{
	return c->fleet;
}

const char *control_mountpoint(const struct control *c)
{
	return c->mountpoint;
}

struct metrics *control_metrics(struct control *c)
{
	return c->metrics;
}

static int64_t now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* The command of a process, while it waits for its answer; "" if it is not seen. */
static void read_comm(pid_t pid, char *buf, size_t size)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/comm", (int)pid);
	CLEAN(clean_free) char *text = NULL;

	if (pid <= 0 || !path || fd_read_file(AT_FDCWD, path, 64, &text, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	(void)snprintf(buf, size, "%s", text); /* the kernel has 15 bytes */
}

struct request *request_new(struct control *c, const struct caller *who,
			    const char *verb, struct branch *b, control_done done,
			    void *ctx)
{
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq) {
		done(ctx, -ENOMEM, NULL);
		return NULL;
	}
	rq->c = c;
	rq->who = *who;
	control_rights(c, who, &rq->rights);
	rq->done = done;
	rq->ctx = ctx;
	rq->b = b ? branch_get(b) : NULL;
	rq->verb = verb;
	rq->started_us = now_us();
	read_comm(who->pid, rq->comm, sizeof(rq->comm));
	if (b) {
		struct branch_info info;

		branch_info(b, &info);
		rq->subject = strdup(info.name);
	}
	return rq;
}

struct request *request_new_own(struct control *c, const char *verb, struct branch *b,
				control_done done, void *ctx)
{
	const struct caller self = {geteuid(), getegid(), getpid()};
	struct request *rq = request_new(c, &self, verb, b, done, ctx);

	if (rq) {
		rq->is_own = true;
		rq->rights.all = true;
	}
	return rq;
}

void request_value(struct request *rq, const char *fmt, ...)
{
	va_list ap;

	free(rq->value);
	rq->more = rq->recorded;
	va_start(ap, fmt);
	if (vasprintf(&rq->value, fmt, ap) < 0)
		rq->value = NULL;
	va_end(ap);
}

/* Trouble of the store or of a server is the operator's; a refusal is not. */
static void log_failure(const struct request *rq, int rc)
{
	const struct err *e = &rq->err;

	if (rc == -EIO || rc == -ENOSPC || rc == -ENOMEM || rc == -EROFS)
		log_error("request of uid %u failed: %s", rq->who.uid, err_text(e));
	else
		log_info("request of uid %u refused: %s", rq->who.uid, err_text(e));
}

static void unclaim_locked(struct request *rq)
{
	for (struct claim **at = &rq->c->claims; rq->claimed; at = &(*at)->next) {
		if (*at == &rq->claim) {
			*at = rq->claim.next;
			rq->claimed = false;
			return;
		}
	}
}

static void request_unclaim(struct request *rq)
{
	LOCK_SCOPE(&rq->c->lock);
	unclaim_locked(rq);
}

static bool makes_space(const char *verb)
{
	static const char *const verbs[] = {"discard", "expire", "gc", "purge",
					    "drop-checkpoint"};

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verb, verbs[i]))
			return true;
	return false;
}

static int write_audit(const struct request *rq, int rc)
{
	const struct audit_event ev = {
		.uid = rq->who.uid,
		.gid = rq->who.gid,
		.pid = rq->who.pid,
		.comm = rq->comm[0] ? rq->comm : NULL,
		.verb = rq->verb,
		.branch = rq->subject,
		.parent = rq->parent,
		.value = rq->value,
		.verdict = rc == 0                         ? AUDIT_ALLOWED
			   : rc == -EPERM || rc == -EACCES ? AUDIT_DENIED
							   : AUDIT_FAILED,
		.reason = rc == 0 ? rq->reason : err_text(&rq->err),
		.duration_us = (uint64_t)(now_us() - rq->started_us),
		.makes_space = makes_space(rq->verb),
	};

	return audit_write(rq->c->audit, &ev);
}

int request_record(struct request *rq)
{
	int rc = write_audit(rq, 0);

	if (rc < 0) {
		(void)err_set(&rq->err, rc,
			      "it is refused, because its record cannot be written to "
			      "the audit log: %s",
			      strerrordesc_np(-rc));
		(void)err_hint(&rq->err, "make it possible to write to %s/" AUDIT_FILE,
			       registry_path(rq->c->registry));
		return rc;
	}
	rq->recorded = true;
	return 0;
}

void request_finish(struct request *rq, int rc)
{
	request_unclaim(rq);
	if (rc < 0 && !rq->err.msg)
		(void)err_set(&rq->err, rc, "%s", strerrordesc_np(-rc));
	assert(rc < 0 || rq->recorded);
	if (rc < 0 || rq->more)
		(void)!write_audit(rq, rc); /* it has said so in the log */
	if (rc < 0) {
		if (!rq->is_own)
			control_note_error(rq->c, rq->who.uid, &rq->err);
		log_failure(rq, rc);
	}
	rq->done(rq->ctx, rc, rc < 0 ? NULL : rq->b);
	(void)branch_put(rq->b);  /* returns NULL */
	(void)branch_put(rq->to); /* likewise */
	rights_fini(&rq->rights);
	err_fini(&rq->err);
	free(rq->subject);
	free(rq->value);
	free(rq->reason);
	free(rq->name);
	free(rq->parent);
	free(rq->from);
	free(rq);
}

void request_to_pool(struct request *rq, void (*fn)(void *rq))
{
	int rc = pool_post(rq->c->pool, fn, rq);

	if (rc < 0)
		request_finish(rq, rc);
}

int request_claim(struct request *rq)
{
	struct control *c = rq->c;
	uint32_t no = branch_no(rq->b);
	struct branch_info info;

	branch_info(rq->b, &info);
	LOCK_SCOPE(&c->lock);
	for (const struct claim *other = c->claims; other; other = other->next) {
		if (other->no != no)
			continue;
		(void)err_set(&rq->err, -EBUSY,
			      "branch '%s' is being changed by another request",
			      info.name);
		return err_hint(&rq->err, "try again when that one is done");
	}
	rq->claim.no = no;
	rq->claim.next = c->claims;
	c->claims = &rq->claim;
	rq->claimed = true;
	return 0;
}

void request_want_unclaim(struct request *rq, enum pm_want want, fleet_done done)
{
	struct control *c = rq->c;
	struct branch *b = rq->b;

	/* the answer may come, and free rq, before fleet_want returns */
	LOCK_SCOPE(&c->lock);
	unclaim_locked(rq);
	fleet_want(c->fleet, b, want, done, rq);
}

int request_authorise(struct request *rq, enum policy_verb verb, struct branch *b,
		      struct branch_info *ret_info)
{
	branch_info(b, ret_info);
	if (ret_info->discarded)
		return err_set(&rq->err, -ENOENT, "branch '%s' was discarded",
			       ret_info->name);
	return control_authorise(rq->c, &rq->rights, &rq->who, verb, ret_info,
				 &rq->err);
}

int control_check_name(const struct control *c, const char *name, struct err *e)
{
	const size_t socket_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	size_t need =
		strlen(c->mountpoint) + 1 + strlen(name) + strlen("/.s.PGSQL.5432");
	int rc = text_check_name(name);

	if (rc == -ENAMETOOLONG) {
		(void)err_set(e, rc, "the name '%s' is too long", name);
		(void)err_hint(e, "a branch's name has at most %d bytes", NAME_LEN_MAX);
		return rc;
	}
	if (rc < 0) {
		(void)err_set(e, rc, "'%s' is no name for a branch", name);
		(void)err_hint(e,
			       "a name is a letter or digit, then letters, digits, "
			       "'_', '-' or '.', at most %d bytes",
			       NAME_LEN_MAX);
		return rc;
	}
	if (strcmp(name, "README") == 0)
		return err_set(e, -EEXIST, "README is a file of this tree");
	if (need > socket_max) {
		(void)err_set(
			e, -ENAMETOOLONG,
			"the socket of '%s' would have a path of %zu bytes, and the "
			"system allows %zu",
			name, need, socket_max);
		(void)err_hint(e,
			       "use a name that is shorter by %zu, or mount at a "
			       "shorter path",
			       need - socket_max);
		return -ENAMETOOLONG;
	}
	return 0;
}

/* Branches that nobody uses go from memory. */
static void unload(struct control *c)
{
	unsigned count;
	int rc = registry_unload(c->registry, rest_ms(c), &count);

	if (rc < 0)
		log_warn("cannot take every branch that nobody uses out of memory: %s; "
			 "trying again",
			 strerrordesc_np(-rc));
	/* what was freed lies between what is in use, in the arenas of many threads;
	 * left to itself the allocator keeps it */
	if (count > 0)
		(void)malloc_trim(0);
}

/*
 * A step at a time, between two of which requests find a free disk: what it costs is
 * bounded by the hour, not by what there is to do.
 */
#define SQUASH_STEP_BYTES (UINT64_C(8) << 20)
#define SQUASH_STEPS 8

static void squash_and_chill(struct control *c)
{
	unsigned layers;
	uint64_t cold_after_s;
	int rc = 1;

	{
		LOCK_SCOPE(&c->lock);
		layers = (unsigned)c->cfg->squash_layers;
		cold_after_s = c->cfg->cold_after_s;
	}
	self_io_idle(true);
	for (unsigned i = 0; rc > 0 && i < SQUASH_STEPS; i++)
		rc = registry_squash(c->registry, layers, SQUASH_STEP_BYTES);
	if (rc < 0)
		log_warn("cannot merge layers: %s; trying again in some minutes",
			 strerrordesc_np(-rc));
	rc = 1;
	for (unsigned i = 0; rc > 0 && i < SQUASH_STEPS; i++)
		rc = registry_chill(c->registry, cold_after_s, SQUASH_STEP_BYTES);
	if (rc < 0)
		log_warn("cannot compress layers: %s; trying again in some minutes",
			 strerrordesc_np(-rc));
	self_io_idle(false);
}

/* A server's superuser can make it log without end, which no quota counts. */
#define LOG_MAX_BYTES (UINT64_C(64) << 20)
#define LOG_KEEP_BYTES (UINT64_C(1) << 20)

static void trim_logs(struct control *c)
{
	struct branch **list;

	if (registry_list(c->registry, &list) < 0)
		return; /* the next time */
	for (struct branch **b = list; *b; b++) {
		struct pm_status st;
		int rc;

		fleet_status(c->fleet, *b, &st);
		if (st.state != PM_RUNNING)
			continue;
		rc = branch_log_trim(*b, LOG_MAX_BYTES, LOG_KEEP_BYTES);
		if (rc < 0)
			log_warn("the log of branch number %u cannot be made shorter: "
				 "%s",
				 branch_no(*b), strerrordesc_np(-rc));
	}
	branch_list_free(list);
}

static void upkeep_job(void *ctx)
{
	struct control *c = ctx;
	bool again = true;

	while (again) {
		int rc = registry_flush(c->registry);

		if (rc < 0)
			log_error("cannot write what was not fsynced to disk: %s; no "
				  "server starts on it",
				  strerrordesc_np(-rc));
		rc = registry_reclaim(c->registry);
		if (rc < 0)
			log_warn("cannot free the space of discarded branches: %s; "
				 "trying again after the next rmdir",
				 strerrordesc_np(-rc));
		trim_logs(c);
		unload(c);
		squash_and_chill(c);
		LOCK_SCOPE(&c->lock);
		again = c->upkeep_again;
		c->upkeep_again = false;
		c->upkeep_runs = again;
	}
}

/* One job at a time: the rest of the pool stays free for requests. */
void control_upkeep(struct control *c)
{
	LOCK_SCOPE(&c->lock);
	if (c->upkeep_runs) {
		c->upkeep_again = true;
		return;
	}
	/* without memory for a job the next rmdir does it */
	c->upkeep_runs = pool_post(c->pool, upkeep_job, c) == 0;
}

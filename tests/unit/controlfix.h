/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * controlfix.h - requests over a registry and a fleet that are arrays here, with the
 * real loop and pool.
 */
#ifndef TESTS_CONTROLFIX_H
#define TESTS_CONTROLFIX_H

#include "unit.h"

#include "base/fd.h"
#include "base/text.h"
#include "ctl/control.h"
#include "ctl/metrics.h"
#include "pg/single.h"
#include "store/chill.h"
#include "store/incoming.h"
#include "store/quota.h"
#include "store/squash.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#define ME 1000

struct branch {
	struct branch_info info;
	bool used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* The world, changed by requests under `lock`; what is looked at without it is atomic.
 */
static struct {
	struct branch branches[8];
	struct statvfs space;
	_Atomic int sync_rc, want_rc, discard_rc;
	_Atomic bool hold_want;   /* the fleet does not answer yet */
	_Atomic unsigned singles; /* runs of single-user servers */
	_Atomic int single_rc;
	_Atomic bool external;        /* somebody else's server is on all branches */
	_Atomic enum fleet_role role; /* every one is this */
	char admitted[64];            /* the last one: user=role */
	struct {
		fleet_done done;
		void *ctx;
	} held;
	_Atomic unsigned wants[5], reclaims, clears, keeps;
	_Atomic enum pm_state state; /* of all servers */
	_Atomic bool helds;
	_Atomic unsigned rollbacks, rolled_to, releases, runs, renewals;
	_Atomic int rollback_rc, release_rc;
	_Atomic bool in_use;
	_Atomic bool touch; /* whoever asks is too late: it was just used */
	_Atomic int in_use_rc;
	_Atomic unsigned in_use_asked;
	struct checkpoint_info checkpoint; /* the only one; seq 0: there is none */
	_Atomic int refs;
	char dir[32]; /* the store: there is the audit log */
	int dirfd;
} world;

static struct loop *loop;
static struct control *control;

/* The control's threads may look at it meanwhile. */
#define WORLD_SET(field, value)                                                        \
	do {                                                                           \
		LOCK_SCOPE(&lock);                                                     \
		world.field = (value);                                                 \
	} while (0)

static inline struct branch *find_locked(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++) {
		struct branch *b = &world.branches[i];

		if (b->used && !b->info.discarded && strcmp(b->info.name, name) == 0)
			return b;
	}
	return NULL;
}

static inline struct branch *find(const char *name)
{
	LOCK_SCOPE(&lock);
	return find_locked(name);
}

static inline struct branch *add(const char *name, const char *parent, uid_t owner)
{
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++) {
		struct branch *b = &world.branches[i];

		if (b->used)
			continue;
		*b = (struct branch){.used = true};
		(void)snprintf(b->info.name, sizeof(b->info.name), "%s", name);
		(void)snprintf(b->info.parent, sizeof(b->info.parent), "%s", parent);
		b->info.no = (uint32_t)i + 1;
		b->info.owner = owner;
		return b;
	}
	return NULL;
}

static inline struct branch *add_branch(const char *name, const char *parent,
					uid_t owner)
{
	LOCK_SCOPE(&lock);
	return add(name, parent, owner);
}

struct branch *branch_get(struct branch *b)
{
	LOCK_SCOPE(&lock);
	world.refs++;
	return b;
}

struct branch *branch_put(struct branch *b)
{
	LOCK_SCOPE(&lock);
	world.refs -= b != NULL;
	return NULL;
}

uint32_t branch_no(const struct branch *b)
{
	return b->info.no;
}

void branch_info(struct branch *b, struct branch_info *ret_info)
{
	LOCK_SCOPE(&lock);
	*ret_info = b->info;
}

int registry_list(struct registry *r, struct branch ***ret_list)
{
	struct branch **v = calloc(ARRAY_SIZE(world.branches) + 1, sizeof(*v));
	size_t n = 0;

	(void)r;
	assert_non_null(v);
	LOCK_SCOPE(&lock);
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++)
		if (world.branches[i].used && !world.branches[i].info.discarded)
			v[n++] = &world.branches[i];
	world.refs += (int)n;
	*ret_list = v;
	return 0;
}

void branch_list_free(struct branch **list)
{
	for (struct branch **b = list; b && *b; b++)
		branch_put(*b);
	free(list);
}

int registry_dirfd(const struct registry *r)
{
	(void)r;
	return world.dirfd;
}

const char *registry_path(const struct registry *r)
{
	(void)r;
	return world.dir;
}

struct branch *registry_find(struct registry *r, const char *name)
{
	struct branch *b;

	(void)r;
	LOCK_SCOPE(&lock);
	b = find_locked(name);
	world.refs += b != NULL;
	return b;
}

int registry_statvfs(struct registry *r, struct statvfs *ret_st)
{
	(void)r;
	*ret_st = world.space;
	return 0;
}

int registry_create(struct registry *r, const struct branch_spec *spec,
		    struct branch **ret_branch, struct err *e)
{
	struct branch *b;

	(void)r;
	LOCK_SCOPE(&lock);
	if (find_locked(spec->name))
		return err_set(e, -EEXIST, "registry says there is one");
	b = add(spec->name, spec->parent->info.name, spec->owner);
	assert_non_null(b);
	b->info.group = spec->group;
	b->info.mode = spec->mode;
	b->info.expires = spec->expires;
	b->info.server_uid = spec->server_uid;
	b->info.masking = spec->masking;
	(void)snprintf(b->info.masked, sizeof(b->info.masked), "%s",
		       spec->masked ? spec->masked : "");
	(void)snprintf(b->info.make_role, sizeof(b->info.make_role), "%s",
		       spec->make_role ? spec->make_role : "");
	world.refs++;
	*ret_branch = b;
	return 0;
}

int checkpoint_find(struct registry *r, uint32_t no, const char *name,
		    struct checkpoint_info *ret_info)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.checkpoint.seq == 0 || world.checkpoint.left ||
	    world.checkpoint.no != no || strcmp(world.checkpoint.name, name) != 0)
		return -ENOENT;
	*ret_info = world.checkpoint;
	return 0;
}

int checkpoint_find_left(struct registry *r, const char *branch, const char *name,
			 struct checkpoint_info *ret_info)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.checkpoint.seq == 0 || !world.checkpoint.left ||
	    strcmp(world.checkpoint.branch, branch) != 0 ||
	    strcmp(world.checkpoint.name, name) != 0)
		return -ENOENT;
	*ret_info = world.checkpoint;
	return 0;
}

int checkpoint_take(struct registry *r, struct branch *b,
		    const struct checkpoint_spec *spec,
		    struct checkpoint_info *ret_info, struct err *e)
{
	(void)r;
	(void)e;
	LOCK_SCOPE(&lock);
	world.checkpoint = (struct checkpoint_info){
		.no = b->info.no, .seq = world.checkpoint.seq + 1, .kind = spec->kind};
	(void)snprintf(world.checkpoint.name, sizeof(world.checkpoint.name), "%s",
		       spec->name);
	(void)snprintf(world.checkpoint.branch, sizeof(world.checkpoint.branch), "%s",
		       b->info.name);
	*ret_info = world.checkpoint;
	return 0;
}

int checkpoint_list(struct registry *r, uint32_t no, struct checkpoint_info **ret_list,
		    size_t *ret_n)
{
	(void)r;
	(void)no;
	*ret_list = NULL;
	*ret_n = 0;
	return 0;
}

bool checkpoint_is_wanted(struct registry *r, struct branch *b)
{
	(void)r;
	(void)b;
	return false;
}

void registry_forget_tree(struct registry *r, struct branch *b, struct overlay *old)
{
	(void)r;
	(void)b;
	assert_null(old);
}

int registry_rollback(struct registry *r, struct branch *b,
		      const struct rollback_spec *spec,
		      struct checkpoint_info *ret_before, struct overlay **ret_old,
		      struct err *e)
{
	*ret_old = NULL;
	(void)r;
	LOCK_SCOPE(&lock);
	assert_true(world.helds); /* nobody may be running on it */
	if (world.rollback_rc < 0)
		return err_set(e, world.rollback_rc, "the disk is broken");
	world.rolled_to = spec->parent ? 0 : spec->seq;
	*ret_before = (struct checkpoint_info){.no = b->info.no, .seq = 99};
	world.rollbacks++;
	return 0;
}

int checkpoint_drop(struct registry *r, uint32_t no, uint32_t seq, struct err *e)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.checkpoint.no != no || world.checkpoint.seq != seq)
		return err_set(e, -ENOENT, "no such checkpoint");
	world.checkpoint.seq = 0;
	return 0;
}

int checkpoint_rename(struct registry *r, uint32_t no, uint32_t seq,
		      const char *newname, struct err *e)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.checkpoint.no != no || world.checkpoint.seq != seq)
		return err_set(e, -ENOENT, "no such checkpoint");
	(void)snprintf(world.checkpoint.name, sizeof(world.checkpoint.name), "%s",
		       newname);
	return 0;
}

struct branch *registry_find_trashed(struct registry *r, const char *trash_name)
{
	struct branch *found = NULL;

	(void)r;
	LOCK_SCOPE(&lock);
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++)
		if (strcmp(world.branches[i].info.trash_name, trash_name) == 0)
			found = &world.branches[i];
	world.refs += found != NULL;
	return found;
}

int registry_list_trash(struct registry *r, struct branch ***ret_list)
{
	struct branch **v = calloc(ARRAY_SIZE(world.branches) + 1, sizeof(*v));
	size_t n = 0;

	(void)r;
	assert_non_null(v);
	LOCK_SCOPE(&lock);
	for (size_t i = 0; i < ARRAY_SIZE(world.branches); i++)
		if (world.branches[i].info.trash_name[0])
			v[n++] = &world.branches[i];
	world.refs += (int)n;
	*ret_list = v;
	return 0;
}

int registry_trash(struct registry *r, struct branch *b, struct err *e)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.discard_rc < 0)
		return err_set(e, world.discard_rc, "the disk is broken");
	b->info.discarded = true;
	b->info.trashed = 978307200;
	(void)snprintf(b->info.trash_name, sizeof(b->info.trash_name),
		       "%s@2001-01-01T00:00:00Z", b->info.name);
	(void)pthread_cond_broadcast(&changed);
	return 0;
}

int registry_restore(struct registry *r, struct branch *b, const char *name,
		     time_t expires, struct err *e)
{
	(void)r;
	(void)e;
	LOCK_SCOPE(&lock);
	b->info.discarded = false;
	b->info.trash_name[0] = '\0';
	b->info.expires = expires;
	(void)snprintf(b->info.name, sizeof(b->info.name), "%s", name);
	return 0;
}

int registry_purge(struct registry *r, struct branch *b, struct err *e)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.discard_rc < 0)
		return err_set(e, world.discard_rc, "the disk is broken");
	b->info.trash_name[0] = '\0';
	(void)pthread_cond_broadcast(&changed);
	return 0;
}

int registry_discard(struct registry *r, struct branch *b, struct err *e)
{
	(void)r;
	LOCK_SCOPE(&lock);
	if (world.discard_rc < 0)
		return err_set(e, world.discard_rc, "the disk is broken");
	b->info.discarded = true;
	(void)pthread_cond_broadcast(&changed);
	return 0;
}

int registry_rename(struct registry *r, struct branch *b, const char *newname,
		    struct err *e)
{
	(void)r;
	(void)e;
	LOCK_SCOPE(&lock);
	(void)snprintf(b->info.name, sizeof(b->info.name), "%s", newname);
	return 0;
}

int registry_unload(struct registry *r, int64_t rest_ms, unsigned *ret_count)
{
	(void)r;
	(void)rest_ms;
	*ret_count = 0;
	return 0;
}

int registry_squash(struct registry *r, unsigned min_run, uint64_t max_bytes)
{
	(void)r;
	(void)min_run;
	(void)max_bytes;
	return 0;
}

int registry_chill(struct registry *r, uint64_t after_s, uint64_t max_bytes)
{
	(void)r;
	(void)after_s;
	(void)max_bytes;
	return 0;
}

int registry_adopt(struct registry *r, const char *dir, const struct branch_spec *spec,
		   struct branch **ret_branch, struct err *e)
{
	(void)r;
	(void)spec;
	(void)ret_branch;
	return err_set(e, -EINVAL, "'%s' is nothing that was received", dir);
}

int branch_log_trim(struct branch *b, uint64_t max_bytes, uint64_t keep_bytes)
{
	(void)b;
	(void)max_bytes;
	(void)keep_bytes;
	return 0;
}

int registry_flush(struct registry *r)
{
	(void)r;
	return 0;
}

int registry_reclaim(struct registry *r)
{
	(void)r;
	LOCK_SCOPE(&lock);
	world.reclaims++;
	(void)pthread_cond_broadcast(&changed);
	return 0;
}

int branch_run_clear(struct branch *b)
{
	(void)b;
	LOCK_SCOPE(&lock);
	world.clears++;
	return 0;
}

int branch_set_flag(struct branch *b, enum branch_flag flag, bool on, struct err *e)
{
	(void)e;
	LOCK_SCOPE(&lock);
	if (flag == BRANCH_STOPPED_BY_HAND)
		b->info.stopped_by_hand = on;
	if (flag == BRANCH_PROTECTED)
		b->info.is_protected = on;
	return 0;
}

int branch_set_expires(struct branch *b, time_t expires, struct err *e)
{
	(void)e;
	LOCK_SCOPE(&lock);
	b->info.expires = expires;
	return 0;
}

int branch_set_access(struct branch *b, const struct branch_access *a, struct err *e)
{
	(void)e;
	LOCK_SCOPE(&lock);
	b->info.mode = a->mode;
	if (a->owner != (uid_t)-1) {
		/* no client may wake a server of the old owner meanwhile */
		assert_true(a->owner == b->info.owner || b->info.stopped_by_hand);
		b->info.owner = a->owner;
	}
	if (a->group != (gid_t)-1)
		b->info.group = a->group;
	if (a->set_server)
		b->info.server_uid = a->server_uid;
	return 0;
}

int registry_held_by(struct registry *r, struct held_by **ret_list, size_t *ret_n)
{
	(void)r;
	*ret_list = NULL;
	*ret_n = 0;
	return 0;
}

uint64_t branch_quota_pending(struct branch *b)
{
	(void)b;
	return 0;
}

void branch_quota_set(struct branch *b, uint64_t limit, uint64_t used)
{
	(void)b;
	(void)limit;
	(void)used;
}

int single_run(struct single *s, struct fleet *f, struct branch *b, const char *dbname,
	       const char *sql, char **ret_out, struct err *e)
{
	(void)s;
	(void)f;
	(void)b;
	(void)sql;
	if (ret_out)
		*ret_out = strdup("\t 1: datname = \"app\"\t(typeid = 19)\n");
	LOCK_SCOPE(&lock);
	world.singles++;
	if (ret_out || world.single_rc == 0)
		return 0;
	return err_set(e, world.single_rc, "the SQL of %s is wrong", dbname);
}

void single_init(struct single *s)
{
	(void)s;
}

void single_fini(struct single *s)
{
	(void)s;
}

void single_stop(struct single *s)
{
	(void)s;
}

void single_add_command(struct str *out, const char *text)
{
	str_add(out, text);
}

char *single_next_value(char **cursor)
{
	char *at = strstr(*cursor, "app");

	if (!at)
		return NULL;
	*cursor = at + 3;
	return at;
}

int branch_end_masking(struct branch *b, const char *masked, struct err *e)
{
	(void)e;
	LOCK_SCOPE(&lock);
	b->info.masking = false;
	(void)snprintf(b->info.masked, sizeof(b->info.masked), "%s", masked);
	(void)pthread_cond_broadcast(&changed);
	return 0;
}

int metrics_new(struct registry *r, struct fleet *f, const char *mountpoint,
		struct metrics **ret_metrics)
{
	(void)r;
	(void)f;
	(void)mountpoint;
	*ret_metrics = NULL;
	return 0;
}

struct metrics *metrics_free(struct metrics *m)
{
	return m;
}

void fleet_server_ids(struct fleet *f, struct branch *b, uid_t *ret_uid, gid_t *ret_gid)
{
	(void)f;
	*ret_uid = b->info.owner;
	*ret_gid = b->info.group;
}

enum fleet_role fleet_look_for_role(struct fleet *f, struct branch *b, const char *role)
{
	(void)f;
	(void)b;
	(void)role;
	return world.role;
}

int fleet_admit(struct fleet *f, struct branch *b, const char *user, const char *role)
{
	(void)f;
	(void)b;
	LOCK_SCOPE(&lock);
	(void)snprintf(world.admitted, sizeof(world.admitted), "%s=%s", user, role);
	return 0;
}

int fleet_check_ours(struct fleet *f, struct branch *b, struct err *e)
{
	(void)f;
	(void)b;
	if (!world.external)
		return 0;
	(void)err_set(e, -EBUSY, "somebody is there");
	return err_hint(e, "ask them");
}

int fleet_sync_commit(struct fleet *f, struct branch *b, struct err *e)
{
	(void)f;
	(void)b;
	return world.sync_rc < 0 ? err_set(e, world.sync_rc, "no answer") : 0;
}

struct answer {
	fleet_done done;
	void *ctx;
};

static inline void answer(void *ctx)
{
	struct err e = ERR_INIT;
	struct answer *a = ctx;
	int rc = world.want_rc;

	if (rc < 0) {
		(void)err_set(&e, rc, "it is stuck");
		(void)err_hint(&e, "shake it");
	}
	a->done(a->ctx, rc, &e);
	err_fini(&e);
	free(a);
}

static inline void answer_soon(fleet_done done, void *ctx)
{
	struct answer *a = malloc(sizeof(*a));

	assert_non_null(a);
	*a = (struct answer){done, ctx};
	assert_int_equal(loop_post(loop, answer, a), 0);
}

void fleet_want(struct fleet *f, struct branch *b, enum pm_want want, fleet_done done,
		void *ctx)
{
	(void)f;
	(void)b;
	LOCK_SCOPE(&lock);
	world.wants[want]++;
	if (want == PM_WANT_HELD)
		world.helds = true;
	if (!world.hold_want) {
		answer_soon(done, ctx);
		return;
	}
	world.held.done = done;
	world.held.ctx = ctx;
	(void)pthread_cond_broadcast(&changed);
}

void fleet_status(struct fleet *f, struct branch *b, struct pm_status *ret_st)
{
	(void)f;
	(void)b;
	*ret_st = (struct pm_status){.state = world.state};
}

void fleet_release(struct fleet *f, struct branch *b, bool renewed, bool run,
		   fleet_done done, void *ctx)
{
	struct err e = ERR_INIT;
	int rc;

	(void)f;
	(void)b;
	{
		LOCK_SCOPE(&lock);
		assert_true(world.helds);
		world.helds = false;
		world.releases++;
		world.runs += run;
		world.renewals += renewed;
		rc = run ? world.release_rc : 0;
	}
	if (rc < 0)
		(void)err_set(&e, rc, "it does not start");
	done(ctx, rc, &e);
	err_fini(&e);
}

void fleet_keep(struct fleet *f, struct branch *b)
{
	(void)f;
	(void)b;
	LOCK_SCOPE(&lock);
	world.keeps++;
}

struct use_question {
	struct branch *b;
	fleet_used done;
	void *ctx;
};

static inline void answer_use(void *ctx)
{
	struct use_question *q = ctx;
	bool used;
	int rc;

	{
		LOCK_SCOPE(&lock);
		world.in_use_asked++;
		if (world.touch)
			q->b->info.last_active = time(NULL);
		used = world.in_use;
		rc = world.in_use_rc;
		(void)pthread_cond_broadcast(&changed);
	}
	q->done(q->ctx, rc, used);
	free(q);
}

void fleet_in_use(struct fleet *f, struct branch *b, fleet_used done, void *ctx)
{
	struct use_question *q = malloc(sizeof(*q));

	(void)f;
	assert_non_null(q);
	*q = (struct use_question){b, done, ctx};
	assert_int_equal(loop_post(loop, answer_use, q), 0);
}

/* One request's end. */
struct result {
	bool done;
	int rc;
	char name[64]; /* of the branch that came with it */
};

static inline void finished(void *ctx, int rc, struct branch *b)
{
	struct result *r = ctx;
	struct branch_info info = {.name = ""};

	if (b)
		branch_info(b, &info);
	LOCK_SCOPE(&lock);
	assert_false(r->done);
	r->done = true;
	r->rc = rc;
	memcpy(r->name, info.name, sizeof(r->name));
	(void)pthread_cond_broadcast(&changed);
}

static inline int await(struct result *r)
{
	LOCK_SCOPE(&lock);
	while (!r->done)
		(void)pthread_cond_wait(&changed, &lock);
	return r->rc;
}

static inline int create_as(uid_t uid, const char *spec)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_create(control, &who, spec, 0755, finished, &r);
	return await(&r);
}

static inline int discard_as(uid_t uid, const char *name)
{
	struct caller who = {uid, uid, 1};
	struct result r = {0};

	control_discard(control, &who, name, finished, &r);
	return await(&r);
}

static inline void check_error(uid_t uid, const char *expected)
{
	char *text = control_error_text(control, uid), *time_line;

	assert_non_null(text);
	time_line = strstr(text, "time: ");
	if (time_line)
		*time_line = '\0';
	assert_string_equal(text, expected);
	free(text);
}

static inline void *run_loop(void *arg)
{
	(void)arg;
	assert_int_equal(loop_run(loop), 0);
	return NULL;
}

static struct pool *pool;
static struct config *cfg;
static pthread_t thread;

/* A control is made and freed while its loop does not run. */
static inline int control_start(const char *mountpoint)
{
	if (loop_new(&loop) < 0 || pool_new(4, &pool) < 0)
		return -1;
	if (control_new(loop, pool, NULL, NULL, cfg, mountpoint, ME, &control, NULL) <
	    0)
		return -1;
	return pthread_create(&thread, NULL, run_loop, NULL);
}

/* As a reload does it: the control reads its settings at any time. */
static inline void reconfigure(uint64_t ttl_s, uint64_t max_ttl_s, uint64_t trash_s)
{
	struct config *fresh;

	assert_int_equal(config_default(&fresh, NULL), 0);
	fresh->ttl_s = ttl_s;
	fresh->max_ttl_s = max_ttl_s;
	fresh->trash_s = trash_s;
	control_configure(control, fresh);
	(void)config_free(cfg);
	cfg = fresh;
}

static inline void control_stop(void)
{
	loop_stop(loop);
	(void)pthread_join(thread, NULL);
	control_drain(control);
	pool = pool_free(pool);
	control = control_free(control);
	loop = loop_free(loop);
}

static inline int world_make(void **state)
{
	struct branch *main_branch;

	(void)state;
	memset(&world, 0, sizeof(world));
	(void)snprintf(world.dir, sizeof(world.dir), "/tmp/pbf-ctl.XXXXXX");
	if (!mkdtemp(world.dir))
		return -1;
	world.dirfd = open(world.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world.space.f_frsize = 4096;
	world.space.f_bavail = 1 << 20;
	main_branch = add("main", "", ME);
	main_branch->info.is_protected = true;
	main_branch->info.last_active = time(NULL);
	return config_default(&cfg, NULL) < 0 ? -1 : control_start("/mnt");
}

static inline int world_remove(void **state)
{
	(void)state;
	control_stop();
	cfg = config_free(cfg);
	(void)close(world.dirfd);
	if (fd_remove_tree(AT_FDCWD, world.dir) < 0)
		return -1;
	return world.refs == 0 ? 0 : -1;
}

#define WORLD_TEST(fn) cmocka_unit_test_setup_teardown(fn, world_make, world_remove)

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lockfile.c - the maker of a lock file, held by pidfd from the moment of its making.
 *
 * A server makes the file under a name that must not be there, then writes its own
 * number into it.  Who makes one is known from the request; it waits for the answer,
 * so that its pid is nobody else's yet.  The bytes come later and from nobody.
 *
 * To remove the file is how a second server gets in: one that takes the first for
 * dead, because it cannot see it, or ours.  So only its maker may, while it lives.
 */
#include "pg/lockfile.h"

#include "base/log.h"
#include "base/proc.h"
#include "pg/fence.h"
#include "pg/pgexec.h"
#include "pg/postmaster.h"
#include "store/overlay.h"

#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>

#define LOCK_BYTES_MAX 4096

void lock_user_fini(struct lock_user *u)
{
	clean_fd(&u->pidfd);
	u->pidfd = -1;
}

/* The file's text; NULL if there is none, or it cannot be read. */
static char *read_lock(struct branch *b)
{
	CLEAN(overlay_putp) struct overlay *data = NULL;
	char *text = NULL;

	if (branch_data_get(b, &data) < 0 ||
	    overlay_read_file(data, FLEET_LOCK_FILE, LOCK_BYTES_MAX, &text, NULL) < 0)
		return NULL;
	return text;
}

static bool maker_lives_locked(const struct slot *s)
{
	return s->lock.there && (s->lock.pidfd < 0 || !proc_has_ended(s->lock.pidfd));
}

/* Who made it and lives; false if nobody. */
static bool living_maker(struct slot *s, struct lock_user *u)
{
	LOCK_SCOPE(&s->fleet->lock);
	if (!maker_lives_locked(s))
		return false;
	u->pid = s->lock.pid;
	u->pidfd = s->lock.pidfd < 0 ? -1 : fcntl(s->lock.pidfd, F_DUPFD_CLOEXEC, 0);
	return true;
}

enum lock_state lockfile_look(struct slot *s, struct branch *b,
			      struct lock_user *ret_user)
{
	CLEAN(lock_user_fini) struct lock_user u = LOCK_USER_INIT;
	CLEAN(clean_free) char *text = NULL;
	struct pgexec_pidfile pf = {.pid = 0};

	if (!living_maker(s, &u))
		return LOCK_FREE;
	text = read_lock(b);
	if (text && pgexec_parse_pidfile(text, &pf) == 0 && u.pid &&
	    !fence_calls_itself(u.pid, pf.pid))
		return LOCK_OTHER;
	*ret_user = u;
	u.pidfd = -1;
	return pf.pid ? LOCK_HELD : LOCK_BEGUN;
}

/* Takes pidfd over. */
static void set_maker_locked(struct slot *s, bool there, pid_t pid, int pidfd)
{
	clean_fd(&s->lock.pidfd);
	s->lock = (struct lock_maker){there, pid, pidfd};
}

void lockfile_forget_dead(struct slot *s)
{
	LOCK_SCOPE(&s->fleet->lock);
	if (!maker_lives_locked(s))
		set_maker_locked(s, false, 0, -1);
}

int lockfile_find_old(struct slot *s, struct branch *b, struct lock_user *ret_user,
		      struct err *e)
{
	CLEAN(clean_free) char *text = NULL;
	struct lock_user u = LOCK_USER_INIT;
	struct pgexec_pidfile pf;
	int rc;

	{
		LOCK_SCOPE(&s->fleet->lock);
		if (s->lock.there)
			return 0; /* made in this mount: the other function knows */
	}
	text = read_lock(b);
	if (!text || pgexec_parse_pidfile(text, &pf) < 0 ||
	    pgexec_pidfile_is_ours(text, branch_no(b)))
		return 0;
	rc = fence_find_server(&pf, &u.pid, &u.pidfd);
	if (rc < 0)
		return err_set(e, rc, "cannot look for the server that wrote %s: %s",
			       FLEET_LOCK_FILE, strerrordesc_np(-rc));
	if (rc == 0 && fence_sees_all())
		return 0;
	*ret_user = u;
	return 1;
}

/* ---- what the file system tells ---- */

struct news {
	struct slot *slot;
	struct branch *branch;
};

static void on_news(void *ctx)
{
	struct news *n = ctx;
	struct postmaster *pm;

	if (postmaster_get(n->slot->fleet, n->slot, n->branch, &pm) == 0)
		postmaster_lock_changed(pm);
	else
		log_error("branch %u: out of memory, not seeing who else uses it",
			  branch_no(n->branch));
	(void)branch_put(n->branch);
	free(n);
}

static void tell_loop(struct slot *s, struct branch *b)
{
	struct news *n = malloc(sizeof(*n));

	if (!n) /* the next start looks by itself */
		return;
	*n = (struct news){s, branch_get(b)};
	doorman_post(s->fleet->loop, on_news, n);
}

static void written_posted(void *ctx)
{
	struct slot *s = ctx;

	atomic_store(&s->lock_posted, false);
	if (s->pm)
		postmaster_lock_changed(s->pm);
}

/* On the thread that wrote; a slot is there as long as the fleet. */
static void written(void *ctx)
{
	struct slot *s = ctx;

	if (!atomic_exchange(&s->lock_posted, true))
		doorman_post(s->fleet->loop, written_posted, s);
}

void fleet_lock_made(struct fleet *f, struct branch *b, pid_t pid)
{
	struct slot *s = fleet_slot(f, branch_no(b));
	CLEAN(overlay_putp) struct overlay *data = NULL;
	int pidfd = -1;

	if (!s || branch_data_get(b, &data) < 0) {
		log_error("branch %u: out of memory, not seeing its servers",
			  branch_no(b));
		return;
	}
	overlay_watch(data, FLEET_LOCK_FILE, written, s);
	if (pid > 0)
		pidfd = pidfd_open(pid, 0);
	/* killed meanwhile, or a thread that is not its process's first: no server */
	if (pid > 0 && pidfd < 0 && (errno == ESRCH || errno == EINVAL))
		return;
	{
		LOCK_SCOPE(&f->lock);
		set_maker_locked(s, true, pid, pidfd);
	}
	tell_loop(s, b);
}

void fleet_lock_gone(struct fleet *f, struct branch *b)
{
	struct slot *s = fleet_slot(f, branch_no(b));
	bool external;

	if (!s)
		return;
	{
		LOCK_SCOPE(&f->lock);
		set_maker_locked(s, false, 0, -1);
		external = s->state == PM_EXTERNAL;
	}
	if (external)
		tell_loop(s, b);
}

int fleet_lock_may_go(struct fleet *f, struct branch *b, pid_t pid, struct err *e)
{
	CLEAN(lock_user_fini) struct lock_user u = LOCK_USER_INIT;
	struct slot *s = fleet_slot(f, branch_no(b));
	bool is_maker, starting;
	enum lock_state st;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	{
		LOCK_SCOPE(&f->lock);
		is_maker = !s->lock.there || s->lock.pid == pid;
		starting = s->state == PM_STARTING;
	}
	if (is_maker)
		return 0;
	st = lockfile_look(s, b, &u);
	/* one that cannot be seen may be dead: people decide, a start of ours does not
	 */
	if ((st != LOCK_HELD && st != LOCK_BEGUN) || (!u.pid && !starting))
		return 0;
	if (u.pid)
		(void)err_set(e, -EBUSY,
			      "%s is the lock file of process %d, which runs a server "
			      "on this data directory",
			      FLEET_LOCK_FILE, (int)u.pid);
	else
		(void)err_set(e, -EBUSY,
			      "%s is the lock file of a server that cannot be seen "
			      "from here",
			      FLEET_LOCK_FILE);
	return err_hint(e, "stop that server first");
}

/* ---- whose server it is ---- */

int fleet_check_ours(struct fleet *f, struct branch *b, struct err *e)
{
	const struct slot *s;

	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, branch_no(b));
	if (!s || s->state != PM_EXTERNAL)
		return 0;
	(void)err_set(e, -EBUSY, "%s",
		      s->reason ? s->reason : "another server runs on it");
	return err_hint(e, "stop that server first");
}

bool fleet_is_server(struct fleet *f, struct branch *b, pid_t pid)
{
	const struct slot *s;

	LOCK_SCOPE(&f->lock);
	s = fleet_find_slot_locked(f, branch_no(b));
	return s && s->pid && s->pid == pid;
}

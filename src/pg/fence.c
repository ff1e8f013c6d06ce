/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence.c - proof that no server of this store is alive.
 *
 * A server is found by its file in STORE/run (pid and start time), by the
 * environment that postmasters keep (backends overwrite theirs with their title),
 * as a child of one found, and by the shared memory segment.  The last means to read
 * the memory map of every process, so it comes when the others find nobody any more,
 * and only for segments that somebody has attached.
 */
#include "pg/fence.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "pg/fleet.h"
#include "pg/procset.h"
#include "pg/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SMALL_FILE 65536
#define ENVIRON_MAX (1 << 20)
#define MAPS_MAX (16 << 20)
#define ROUNDS_MAX 10
#define LEFT_PATIENCE_MS 3000
#define INITIAL_PID_NS 0xeffffffcu /* the kernel's PROC_PID_INIT_INO */
#define MARK "PGBRANCHFS_STORE="
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_LEN 36

static unsigned long long start_time(pid_t pid)
{
	return procset_stat(pid).start;
}

struct note {
	pid_t pid;
	unsigned long long start;
	uint32_t shm_key;
	int shm_id;
	char boot[BOOT_ID_LEN + 1]; /* "-": not known */
};

static void this_boot(char boot[static BOOT_ID_LEN + 1])
{
	CLEAN(clean_free) char *text = NULL;

	if (fd_read_file(AT_FDCWD, BOOT_ID, SMALL_FILE, &text, NULL) < 0 ||
	    sscanf(text, "%36s", boot) != 1)
		memcpy(boot, "-", sizeof("-"));
}

/* All that a note says are numbers that are given out anew after a boot. */
static bool is_of_this_boot(const struct note *n)
{
	char boot[BOOT_ID_LEN + 1];

	this_boot(boot);
	return strcmp(n->boot, "-") == 0 || strcmp(boot, "-") == 0 ||
	       strcmp(n->boot, boot) == 0;
}

static void note_name(char name[static 24], uint32_t no)
{
	(void)snprintf(name, 24, "run/%u.pid", no); /* fits */
}

int fence_note(struct registry *r, uint32_t no, pid_t pid, uint32_t shm_key, int shm_id)
{
	CLEAN(clean_free) char *text = NULL;
	CLEAN(clean_fd) int fd = -1;
	char name[24], tmp[32], boot[BOOT_ID_LEN + 1];
	int dirfd = registry_dirfd(r), rc;

	note_name(name, no);
	(void)snprintf(tmp, sizeof(tmp), "%s.tmp", name); /* fits */
	this_boot(boot);
	text = text_format("%d %llu %u %d %s\n", (int)pid, start_time(pid), shm_key,
			   shm_id, boot);
	if (!text)
		return -ENOMEM;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = fd_write_full(fd, text, strlen(text));
	if (rc == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
		rc = -errno;
	return rc;
}

void fence_forget(struct registry *r, uint32_t no)
{
	char name[24];

	note_name(name, no);
	(void)unlinkat(registry_dirfd(r), name, 0); /* a stale one is seen as stale */
}

static bool parse_note(const char *text, struct note *ret_note)
{
	struct note n = {.boot = "-"};
	unsigned key = 0;
	int pid;

	if (sscanf(text, "%d %llu %u %d %36s", &pid, &n.start, &key, &n.shm_id,
		   n.boot) < 2 ||
	    pid <= 0)
		return false;
	n.pid = pid;
	n.shm_key = key;
	*ret_note = n;
	return true;
}

static bool started_at(pid_t pid, const void *arg)
{
	const unsigned long long *start = arg;

	return *start && start_time(pid) == *start;
}

/* Only servers: somebody's shell may have the variable, too. */
static bool is_postgres(pid_t pid)
{
	char path[64], exe[4096];
	const char *base;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid); /* fits */
	n = readlink(path, exe, sizeof(exe) - 1);
	if (n < 0)
		return false;
	exe[n] = '\0';
	base = strrchr(exe, '/');
	return base &&
	       (!strcmp(base, "/postgres") || !strcmp(base, "/postgres (deleted)"));
}

static bool named_postgres(pid_t pid, const void *arg)
{
	(void)arg;
	return is_postgres(pid);
}

static bool has_mark(pid_t pid, const void *arg)
{
	CLEAN(clean_free) char *env = NULL;
	const char *store = arg;
	size_t len;

	if (!is_postgres(pid) ||
	    procset_read(pid, "environ", ENVIRON_MAX, &env, &len) < 0)
		return false;
	for (char *p = env; p < env + len; p += strlen(p) + 1)
		if (!strncmp(p, MARK, sizeof(MARK) - 1) &&
		    !strcmp(p + sizeof(MARK) - 1, store))
			return true;
	return false;
}

/* "start-end perms offset dev inode /SYSV0052c1a5 (deleted)"; inode is the id. */
static bool has_segment(pid_t pid, const void *arg)
{
	CLEAN(clean_free) char *maps = NULL;
	const struct note *n = arg;
	char *cursor, *line;
	char mark[24];

	if (procset_read(pid, "maps", MAPS_MAX, &maps, NULL) < 0)
		return false;
	(void)snprintf(mark, sizeof(mark), "/SYSV%08x", n->shm_key); /* fits */
	cursor = maps;
	while ((line = text_next_line(&cursor))) {
		unsigned long inode;

		if (strstr(line, mark) &&
		    sscanf(line, "%*s %*s %*s %*s %lu", &inode) == 1 &&
		    inode == (unsigned long)n->shm_id)
			return true;
	}
	return false;
}

int fence_end_orphans(uint32_t shm_key, int shm_id, struct err *e)
{
	CLEAN(procset_fini) struct procset l = {NULL, 0};
	const struct note n = {.shm_key = shm_key, .shm_id = shm_id};
	int rc;

	if (!shm_key)
		return 0;
	/* one that is just being forked is found in the next round */
	for (int round = 0; round < 3 && segment_is_attached(n.shm_key, n.shm_id);
	     round++) {
		size_t before = l.n;

		rc = procset_scan(&l, has_segment, &n);
		if (rc < 0)
			return err_set(e, rc, "cannot look for server processes: %s",
				       strerrordesc_np(-rc));
		if (l.n == before)
			break;
		rc = procset_end(&l, false, e);
		if (rc < 0)
			return rc;
	}
	segment_remove(n.shm_key, n.shm_id);
	return 0;
}

void fence_reap_adopted(bool (*is_ours)(void *ctx, pid_t pid), void *ctx)
{
	DIR *d = opendir("/proc");
	struct dirent *de;

	while (d && (de = readdir(d))) {
		pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);
		struct procset_stat s;
		siginfo_t si;

		if (pid <= 0)
			continue;
		s = procset_stat(pid);
		if (s.start && s.state == 'Z' && s.parent == getpid() &&
		    s.session != getsid(0) && !is_ours(ctx, pid))
			(void)waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG);
	}
	if (d)
		(void)closedir(d);
}

int fence_find_server(const struct pgexec_pidfile *pf, pid_t *ret_pid, int *ret_pidfd)
{
	CLEAN(procset_fini) struct procset l = {NULL, 0};
	const struct note n = {.shm_key = pf->shm_key, .shm_id = pf->shm_id};
	size_t at = 0;
	int rc = 0;

	if (pf->shm_key)
		rc = procset_scan(&l, has_segment, &n);
	else /* it had hardly begun */
		rc = procset_add_if(&l, pf->pid, named_postgres, NULL);
	if (rc < 0 || l.n == 0)
		return rc;
	/* without their postmaster they end by themselves, if they can */
	while (at < l.n && !fence_calls_itself(l.v[at].pid, pf->pid))
		at++;
	if (at == l.n && procset_wait(&l, LEFT_PATIENCE_MS) == 0)
		return 0;
	if (at == l.n)
		for (at = 0; l.v[at].gone;)
			at++;
	*ret_pid = l.v[at].pid;
	*ret_pidfd = steal_fd(&l.v[at].pidfd);
	return 1;
}

bool fence_calls_itself(pid_t pid, pid_t number)
{
	CLEAN(clean_free) char *text = NULL;
	char *line, *last;

	if (procset_read(pid, "status", SMALL_FILE, &text, NULL) < 0)
		return true; /* what hides cannot be told from what is */
	line = strstr(text, "\nNSpid:");
	if (!line)
		return pid == number;
	line++;
	line[strcspn(line, "\n")] = '\0';
	last = strrchr(line, '\t');
	return last && strtol(last + 1, NULL, 10) == number;
}

bool fence_sees_all(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == INITIAL_PID_NS;
}

/* 1: STORE/run/NO.pid says something; 0: it is gone, torn by a crash, or of before the
 * machine's last boot. */
static int read_note(int dirfd, const char *name, struct note *ret_note)
{
	CLEAN(clean_free) char *text = NULL;
	int rc = fd_read_file(dirfd, name, SMALL_FILE, &text, NULL);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	return parse_note(text, ret_note) && is_of_this_boot(ret_note);
}

static int add_noted(struct procset *l, int dirfd, const char *name)
{
	struct note n;
	int rc = read_note(dirfd, name, &n);

	return rc > 0 ? procset_add_if(l, n.pid, started_at, &n.start) : rc;
}

static int add_attached(struct procset *l, int dirfd, const char *name)
{
	struct note n;
	int rc = read_note(dirfd, name, &n);

	if (rc <= 0 || !n.shm_key || !segment_is_attached(n.shm_key, n.shm_id))
		return rc < 0 ? rc : 0;
	return procset_scan(l, has_segment, &n);
}

static int remove_note(struct procset *l, int dirfd, const char *name)
{
	struct note n;

	(void)l;
	if (read_note(dirfd, name, &n) > 0)
		segment_remove(n.shm_key, n.shm_id);
	return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
}

static bool is_note(const char *name)
{
	size_t digits = strspn(name, "0123456789");

	return digits && !strcmp(name + digits, ".pid");
}

/* Calls fn for all NO.pid files. */
static int each_note(int dirfd,
		     int (*fn)(struct procset *l, int dirfd, const char *name),
		     struct procset *l)
{
	struct dirent *de;
	int fd, rc = 0;
	DIR *d;

	fd = openat(dirfd, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (rc == 0 && (de = readdir(d)))
		if (is_note(de->d_name))
			rc = fn(l, fd, de->d_name);
	(void)closedir(d);
	return rc;
}

static int find_servers(struct registry *r, struct procset *l)
{
	int dirfd = registry_dirfd(r), rc;
	size_t before = l->n;

	rc = each_note(dirfd, add_noted, l);
	if (rc == 0)
		rc = procset_scan(l, has_mark, registry_path(r));
	if (rc == 0)
		rc = procset_add_children(l);
	if (rc == 0 && l->n == before)
		rc = each_note(dirfd, add_attached, l);
	return rc;
}

/* One that is just being forked is found in the next round. */
static int end_servers(struct registry *r, struct err *e)
{
	CLEAN(procset_fini) struct procset l = {NULL, 0};

	for (int round = 0; round < ROUNDS_MAX; round++) {
		size_t before = l.n;
		int rc = find_servers(r, &l);

		if (rc < 0)
			return err_set(
				e, rc,
				"cannot look for servers of an earlier mount: %s",
				strerrordesc_np(-rc));
		if (l.n == before)
			return 0;
		log_warn("found %zu server processes of an earlier mount, ending them",
			 l.n - before);
		rc = procset_end(&l, true, e);
		if (rc < 0)
			return err_wrap(e, rc, "an earlier mount left servers");
	}
	return err_set(e, -EBUSY, "servers of an earlier mount go on making processes");
}

int fleet_fence(struct registry *r, struct err *e)
{
	int rc = end_servers(r, e);

	if (rc < 0)
		return rc;
	rc = each_note(registry_dirfd(r), remove_note, NULL);
	if (rc < 0)
		return err_set(e, rc, "cannot clean the store's run directory: %s",
			       strerrordesc_np(-rc));
	return 0;
}

/* Was it started by this process, or by one that was? */
static bool is_ours(pid_t pid)
{
	for (int i = 0; i < 64 && pid > 1; i++) {
		if (pid == getpid())
			return true;
		pid = procset_stat(pid).parent;
	}
	return false;
}

static bool is_stray(pid_t pid, const void *arg)
{
	return has_mark(pid, arg) && !is_ours(pid);
}

int fence_strays(struct registry *r, bool end, void (*fn)(void *ctx, pid_t pid),
		 void *ctx, struct err *e)
{
	CLEAN(procset_fini) struct procset l = {NULL, 0};
	size_t n = 0;
	int rc = procset_scan(&l, is_stray, registry_path(r));

	if (rc == 0) {
		n = l.n;
		rc = end ? procset_add_children(&l) : 0;
	}
	if (rc < 0)
		return err_set(e, rc, "cannot look for servers: %s",
			       strerrordesc_np(-rc));
	rc = end ? procset_end(&l, true, e) : 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		fn(ctx, l.v[i].pid);
	return rc;
}

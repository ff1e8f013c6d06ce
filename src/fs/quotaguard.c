/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * With a cache that is written back, a write is done when the kernel has it, long
 * before the daemon hears of it, and a refusal then would come as a lost page.  But
 * before it takes one, the kernel looks at the file's attributes, and asks for them if
 * they are not valid any more; an error is then the write's.  So near a quota
 * attributes of files have no time of validity (`node_attr_timeout`), and a question
 * for them with an open file is looked at: who asks waits in a system call, which /proc
 * tells.
 *
 * What comes from the cache is never refused.
 */
#include "fs/quotaguard.h"

#include "base/fd.h"
#include "base/loop.h"
#include "store/cowfile.h"
#include "store/quota.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Files that servers need to start and to be cleaned up stay below. */
#define SMALL_BYTES 65536
/* How long a thread is waited for that has sent its question and still runs. */
#define SETTLE_US 50
#define SETTLE_TRIES 400
/* The run directory has sockets and a few lines of configuration. */
#define RUN_FILE_MAX (16 << 20)

/*
 * How long files are for the kernel, which keeps their ends for half a minute: found by
 * their numbers.  Of those in one set the oldest gives way, and is charged twice.
 */
#define SETS 1024
#define WAYS 4
#define KEEP_MS 35000
struct row {
	uint64_t ino, end;
	int64_t until_ms;
};
static struct {
	pthread_mutex_t lock;
	struct row sets[SETS][WAYS]; /* lock: lock */
} announced = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The row of a file, or the one that gives way for it. */
static struct row *row_locked(uint64_t ino)
{
	struct row *set = announced.sets[ino * UINT64_C(0x9e3779b97f4a7c15) >> 54];
	struct row *oldest = set;

	for (int i = 0; i < WAYS; i++) {
		if (set[i].ino == ino)
			return &set[i];
		if (set[i].until_ms < oldest->until_ms)
			oldest = &set[i];
	}
	return oldest;
}

static uint64_t announced_end(uint64_t ino)
{
	const struct row *r;

	LOCK_SCOPE(&announced.lock);
	r = row_locked(ino);
	return r->ino == ino && r->until_ms > loop_now_ms() ? r->end : 0;
}

static void announce(uint64_t ino, uint64_t end)
{
	LOCK_SCOPE(&announced.lock);
	*row_locked(ino) = (struct row){ino, end, loop_now_ms() + KEEP_MS};
}

void quotaguard_truncated(const struct node *n, uint64_t size)
{
	if (branch_quota_is_near(n->b))
		announce(node_ino(n), size);
}

static enum quota_use use_of(struct cowfile *f, uint64_t size, uint64_t end)
{
	if (cowfile_is_wal(f))
		return QUOTA_WAL;
	if (end <= SMALL_BYTES)
		return QUOTA_SMALL;
	return end > size ? QUOTA_GROW : QUOTA_COPY;
}

static uint64_t size_of(const struct node *n)
{
	struct node_attr a;

	return overlay_getattr(n->o, n->fid, &a) == 0 ? a.size_bytes : 0;
}

int quotaguard_write(const struct handle *h, bool late, size_t len, uint64_t off)
{
	uint64_t limit, used;
	bool grows;
	int rc;

	if (h->n.kind == NODE_RUN)
		return off > RUN_FILE_MAX || len > RUN_FILE_MAX - off ? -EDQUOT : 0;
	if (!branch_quota_get(h->n.b, &limit, &used))
		return 0;
	grows = cowfile_would_grow(h->f, len, off);
	if (!late && !grows)
		return 0;
	/* pages come in any order, so also one that fills a gap was announced */
	if (!late) {
		rc = branch_quota_ask(h->n.b, use_of(h->f, size_of(&h->n), off + len),
				      len);
		if (rc < 0)
			return rc;
	}
	branch_quota_came(h->n.b, len, grows);
	return 0;
}

int quotaguard_fallocate(const struct handle *h, int mode, uint64_t off, uint64_t len)
{
	uint64_t limit, used, size;
	int rc;

	if (h->n.kind == NODE_RUN)
		return off > RUN_FILE_MAX || len > RUN_FILE_MAX - off ? -EDQUOT : 0;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) ||
	    !branch_quota_get(h->n.b, &limit, &used))
		return 0;
	size = size_of(&h->n);
	if (len > UINT64_MAX - off || off + len <= size)
		return 0;
	if (off < size)
		len -= size - off;
	rc = branch_quota_ask(h->n.b, use_of(h->f, size, off + len), len);
	if (rc == 0)
		branch_quota_came(h->n.b, len, true);
	return rc;
}

/* System calls that look at a file, or read it. */
static const long reads[] = {
	SYS_lseek,      SYS_read,    SYS_pread64,   SYS_readv,
	SYS_preadv,     SYS_preadv2, SYS_fstat,     SYS_statx,
#ifdef SYS_newfstatat
	SYS_newfstatat,
#endif
#ifdef SYS_stat
	SYS_stat,       SYS_lstat,
#endif
	SYS_close,      SYS_fsync,   SYS_fdatasync, SYS_exit_group,
	SYS_mmap,       SYS_flock,   SYS_fcntl,
};

/* The six arguments; how many are there. */
static int arguments(const char *text, unsigned long long args[6])
{
	int n = 0;

	for (const char *at = strchr(text, ' '); at && n < 6;
	     at = strchr(at + 1, ' ')) {
		char *end;

		args[n] = strtoull(at + 1, &end, 16);
		if (end == at + 1)
			break;
		n++;
	}
	return n;
}

bool quotaguard_parse(const char *text, struct write_call *ret_call)
{
	unsigned long long a[6] = {0};
	struct write_call call = {.fd = -1};
	char *end;
	long nr = strtol(text, &end, 10);
	int n = arguments(text, a);

	for (size_t i = 0; end != text && *end == ' ' && i < ARRAY_SIZE(reads); i++)
		if (nr == reads[i])
			return false;
	if (end != text && n == 6 && (nr == SYS_write || nr == SYS_pwrite64)) {
		call.fd = (int)a[0];
		call.len = a[2];
	}
	if (end != text && n == 6 &&
	    (nr == SYS_pwrite64 || nr == SYS_pwritev || nr == SYS_pwritev2)) {
		call.at = true;
		call.off = a[3];
	}
	*ret_call = call;
	return true;
}

/*
 * What a thread does that waits for our answer.  It may be seen before it has gone to
 * sleep: then its call is not told yet.  A heap string, or NULL.
 */
static char *syscall_of(pid_t tid)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/syscall", (int)tid);
	char *text = NULL;

	for (int i = 0; path && i < SETTLE_TRIES; i++) {
		free(text);
		text = NULL;
		if (fd_read_file(AT_FDCWD, path, 512, &text, NULL) < 0 ||
		    strncmp(text, "running", 7) != 0)
			break;
		(void)usleep(SETTLE_US);
	}
	return text;
}

/* Where the descriptor of a thread stands; false: not told.  An appending one stands at
 * the end, which is size or behind it. */
static bool position_of(pid_t tid, int fd, uint64_t size, uint64_t *ret_off)
{
	CLEAN(clean_free) char *path = text_format("/proc/%d/fdinfo/%d", (int)tid, fd);
	CLEAN(clean_free) char *text = NULL;
	const char *flags;

	if (!path || fd_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0 ||
	    strncmp(text, "pos:", 4) != 0)
		return false;
	*ret_off = strtoull(text + 4, NULL, 10);
	flags = strstr(text, "\nflags:");
	if (flags && strtoul(flags + 7, NULL, 8) & O_APPEND)
		*ret_off = size;
	return true;
}

static int ask(const struct handle *h, pid_t tid, const struct write_call *call)
{
	uint64_t size = size_of(&h->n), known = announced_end(node_ino(&h->n));
	uint64_t off = call->off, len = call->len, end;
	int rc;

	/* what cannot be told is counted when it comes, and refused when nothing is
	 * left
	 */
	if (len == 0 && call->at && off < size)
		return branch_quota_ask(h->n.b, QUOTA_COPY, 1);
	if (len == 0 ||
	    (!call->at &&
	     !position_of(tid, call->fd, known > size ? known : size, &off)) ||
	    len > UINT64_MAX - off)
		return branch_quota_ask(h->n.b, QUOTA_GROW, 1);
	if (off + len <= size)
		return cowfile_would_grow(h->f, len, off)
			       ? branch_quota_ask(h->n.b, use_of(h->f, size, off + len),
						  len)
			       : 0;
	/* servers make a file longer first, and write what belongs there later */
	if (known > size)
		size = known;
	end = off + len;
	if (end <= size)
		return 0;
	rc = branch_quota_ask(h->n.b, use_of(h->f, size, end),
			      off < size ? end - size : len);
	if (rc == 0)
		announce(node_ino(&h->n), end);
	return rc;
}

int quotaguard_getattr(fuse_req_t req, fuse_ino_t ino, const struct node *n,
		       const struct fuse_file_info *fi)
{
	pid_t tid = fuse_req_ctx(req)->pid;
	CLEAN(handle_clean) struct handle *h = NULL;
	CLEAN(clean_free) char *text = NULL;
	struct write_call call;

	if (!fi || n->kind != NODE_DATA || !branch_quota_is_near(n->b) || tid <= 0)
		return 0;
	text = syscall_of(tid);
	if (!text || !quotaguard_parse(text, &call) ||
	    handle_get(req, ino, fi, &h) < 0 || !h->f)
		return 0;
	return ask(h, tid, &call);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * matrix MOUNTPOINT: every operation on a branch, by everybody who may stand in some
 * relation to it, while it is private and while it is shared with a group.
 *
 * The expected errno follows from three things: whether the branch is seen at all,
 * whether it may be entered, and whose it is; a row has one for each. What is hidden is
 * ENOENT in every row. Prints the cells that differ, and how many there are.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define OWNER 4001
#define GROUP 4100

enum relation {
	REL_OWNER,
	REL_ROOT,
	REL_MEMBER,
	REL_OTHER,
	REL_LOOKER,
	REL_NOBODY,
	RELS
};
static const struct {
	const char *name;
	uid_t uid;
	bool in_group;
} rels[RELS] = {
	[REL_OWNER] = {"owner", OWNER, true},   [REL_ROOT] = {"root", 0, false},
	[REL_MEMBER] = {"member", 4002, true},  [REL_OTHER] = {"other", 4003, false},
	[REL_LOOKER] = {"looker", 4005, false}, [REL_NOBODY] = {"nobody", 4004, false},
};

static const char *mnt;
static char number[32]; /* of the branch */

static int at_root(void)
{
	return open(mnt, O_PATH | O_DIRECTORY);
}

static int write_word(const char *path, const char *word)
{
	int fd = openat(at_root(), path, O_WRONLY);
	ssize_t n = fd < 0 ? -1 : write(fd, word, strlen(word));

	return n < 0 ? -1 : 0;
}

static int read_some(const char *path)
{
	char buf[16];
	int fd = openat(at_root(), path, O_RDONLY);

	return fd < 0 || read(fd, buf, sizeof(buf)) < 0 ? -1 : 0;
}

static int open_dir(const char *path)
{
	return openat(at_root(), path, O_RDONLY | O_DIRECTORY) < 0 ? -1 : 0;
}

static int look(const char *path)
{
	struct stat st;

	return fstatat(at_root(), path, &st, AT_SYMLINK_NOFOLLOW);
}

static int make(const char *path)
{
	return openat(at_root(), path, O_WRONLY | O_CREAT | O_EXCL, 0600) < 0 ? -1 : 0;
}

static int run_path(const char *what, int (*fn)(const char *path))
{
	char path[64];

	(void)snprintf(path, sizeof(path), ".run/%s%s", number, what);
	return fn(path);
}

/* --- the operations --- */

static int op_stat(void)
{
	return look("b");
}
static int op_access(void)
{
	return faccessat(at_root(), "b", F_OK, 0);
}
static int op_list(void)
{
	return open_dir("b");
}
static int op_path(void)
{
	return openat(at_root(), "b", O_PATH) < 0 ? -1 : 0;
}
static int op_status(void)
{
	return read_some("b/status");
}
static int op_json(void)
{
	return read_some("b/status.json");
}
static int op_state(void)
{
	return read_some("b/state");
}
static int op_url(void)
{
	return read_some("b/url");
}
static int op_parent(void)
{
	return read_some("b/parent");
}
static int op_owner(void)
{
	return read_some("b/owner");
}
static int op_log(void)
{
	return read_some("b/log");
}
static int op_absent(void)
{
	return look("b/nothing");
}
static int op_stop(void)
{
	return write_word("b/state", "stopped");
}
static int op_nonsense(void)
{
	return write_word("b/state", "x");
}
static int op_expires(void)
{
	return write_word("b/expires", "2h");
}
static int op_forever(void)
{
	return write_word("b/expires", "never");
}
static int op_protect(void)
{
	return write_word("b/protected", "1");
}
static int op_rollback(void)
{
	return write_word("b/rollback", "none");
}
static int op_reset(void)
{
	return write_word("b/reset", "nonsense");
}
static int op_write_status(void)
{
	return write_word("b/status", "x");
}
static int op_chmod(void)
{
	return fchmodat(AT_FDCWD, "b", 0700, 0);
}
static int op_chgrp(void)
{
	return fchownat(AT_FDCWD, "b", (uid_t)-1, GROUP, 0);
}
static int op_chgrp_foreign(void)
{
	return fchownat(AT_FDCWD, "b", (uid_t)-1, 4199, 0);
}
static int op_chown(void)
{
	return fchownat(AT_FDCWD, "b", 4003, (gid_t)-1, 0);
}
static int op_touch(void)
{
	return utimensat(at_root(), "b", NULL, 0);
}
static int op_rename(void)
{
	return rename("b", "renamed");
}
static int op_rename_over(void)
{
	return rename("b", "mine") == 0 ? 0
	       : errno == ENOTEMPTY     ? (errno = EEXIST, -1)
					: -1;
}
static int op_rmdir(void)
{
	return rmdir("b");
}
static int op_unlink(void)
{
	return unlink("b");
}
static int op_child(void)
{
	return mkdir("c@b", 0700);
}
static int op_create(void)
{
	return make("b/file");
}
static int op_mkdir(void)
{
	return mkdir("b/dir", 0700);
}
static int op_link(void)
{
	return linkat(AT_FDCWD, "README", AT_FDCWD, "b/link", 0);
}
static int op_symlink(void)
{
	return symlink("README", "b/link");
}
static int op_checkpoint(void)
{
	return mkdir("b/checkpoints/c", 0700);
}
static int op_data(void)
{
	return look("b/data");
}
static int op_data_list(void)
{
	return open_dir("b/data");
}
static int op_data_read(void)
{
	return read_some("b/data/PG_VERSION");
}
static int op_data_make(void)
{
	return make("b/data/file");
}
static int op_data_chown(void)
{
	return fchownat(AT_FDCWD, "b/data", 4003, (gid_t)-1, 0);
}
static int op_run(void)
{
	return run_path("", look);
}
static int op_run_list(void)
{
	return run_path("", open_dir);
}
static int op_run_data(void)
{
	return run_path("/data/PG_VERSION", read_some);
}
static int op_xattr(void)
{
	return setxattr("b", "user.x", "y", 1, 0);
}
static int op_socket(void)
{
	return look("b/.s.PGSQL.5432");
}
static int op_connect(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "b/.s.PGSQL.5432"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

/*
 * What the owner, root, who may enter by the group, and who only sees it gets.  0: it
 * is done.
 */
static const struct row {
	const char *name;
	int (*op)(void);
	int owner, root, member, looker;
} rows[] = {
	{"stat", op_stat, 0, 0, 0, 0},
	{"access", op_access, 0, 0, 0, 0},
	{"open O_PATH", op_path, 0, 0, 0, 0},
	{"list", op_list, 0, 0, 0, EACCES},
	{"read status", op_status, 0, 0, 0, EACCES},
	{"read status.json", op_json, 0, 0, 0, EACCES},
	{"read state", op_state, 0, 0, 0, EACCES},
	{"read url", op_url, 0, 0, 0, EACCES},
	{"read parent", op_parent, 0, 0, 0, EACCES},
	{"read owner", op_owner, 0, 0, 0, EACCES},
	{"read log", op_log, 0, 0, 0, EACCES},
	{"look for what is not there", op_absent, ENOENT, ENOENT, ENOENT, EACCES},
	{"write state", op_stop, 0, 0, EACCES, EACCES},
	{"write a bad state", op_nonsense, EINVAL, EINVAL, EACCES, EACCES},
	{"write expires", op_expires, 0, 0, EACCES, EACCES},
	{"write expires behind max_ttl", op_forever, EPERM, 0, EACCES, EACCES},
	{"write protected", op_protect, EPERM, 0, EACCES, EACCES},
	{"write rollback", op_rollback, ENOENT, ENOENT, EACCES, EACCES},
	{"write reset", op_reset, EINVAL, EINVAL, EACCES, EACCES},
	{"write status", op_write_status, EACCES, EPERM, EACCES, EACCES},
	{"chmod", op_chmod, 0, 0, EPERM, EPERM},
	{"chgrp", op_chgrp, 0, 0, EPERM, EPERM},
	{"chgrp to another's group", op_chgrp_foreign, EPERM, 0, EPERM, EPERM},
	{"chown", op_chown, EPERM, 0, EPERM, EPERM},
	{"touch", op_touch, 0, 0, EACCES, EACCES},
	{"rename", op_rename, 0, 0, EPERM, EPERM},
	{"rename over another's", op_rename_over, EEXIST, EEXIST, EPERM, EPERM},
	{"rmdir", op_rmdir, 0, 0, EPERM, EPERM},
	{"unlink", op_unlink, EISDIR, EISDIR, EPERM, EPERM},
	{"branch of it", op_child, 0, 0, EPERM, EPERM},
	{"make a file", op_create, EPERM, EPERM, EACCES, EACCES},
	{"make a directory", op_mkdir, EPERM, EPERM, EACCES, EACCES},
	/* the kernel asks first whether it may be linked at all */
	{"make a link", op_link, EPERM, EPERM, EPERM, EACCES},
	{"make a symlink", op_symlink, EPERM, EPERM, EACCES, EACCES},
	{"checkpoint", op_checkpoint, 0, 0, EACCES, EACCES},
	{"stat data", op_data, 0, 0, 0, EACCES},
	{"list data", op_data_list, 0, 0, EACCES, EACCES},
	{"read in data", op_data_read, 0, 0, EACCES, EACCES},
	{"make in data", op_data_make, 0, 0, EACCES, EACCES},
	{"chown data", op_data_chown, EPERM, EPERM, EPERM, EACCES},
	{"stat .run", op_run, 0, 0, 0, 0},
	{"list .run", op_run_list, 0, 0, EACCES, EACCES},
	{"read data by .run", op_run_data, 0, 0, EACCES, EACCES},
	{"set an attribute", op_xattr, EOPNOTSUPP, EOPNOTSUPP, EACCES, EACCES},
	{"stat the socket", op_socket, 0, 0, 0, EACCES},
	/* owner and member have no name in passwd: no server would know them */
	{"connect", op_connect, EACCES, 0, EACCES, EACCES},
};

static int expected(const struct row *r, enum relation rel, bool shared)
{
	if (rel == REL_OWNER)
		return r->owner;
	if (rel == REL_ROOT)
		return r->root;
	if (rel == REL_MEMBER && shared)
		return r->member;
	if (rel == REL_LOOKER)
		return r->looker;
	/* without a policy nothing is made, whatever of */
	if (rel == REL_NOBODY && r->op == op_child)
		return EPERM;
	return ENOENT;
}

/* As that uid, in a process of its own: the errno. */
static int run_as(enum relation rel, int (*op)(void))
{
	gid_t group = GROUP;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		uid_t uid = rels[rel].uid;

		if (chdir(mnt) < 0 || setgroups(rels[rel].in_group, &group) < 0 ||
		    setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
			_exit(255);
		_exit(op() == 0 ? 0 : errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 255;
	return WEXITSTATUS(status);
}

static int op_make(void)
{
	return mkdir("b", 0700);
}

static void put_right(void)
{
	(void)rmdir("c");
	(void)rename("renamed", "b");
	(void)unlink("b/data/file");
	(void)rmdir("b/checkpoints/c");
}

/* The branch as each cell finds it. */
static void prepare(bool shared)
{
	struct stat st;
	char *end;
	char buf[256];
	int fd;
	ssize_t n;

	put_right();
	if (stat("b", &st) < 0 && run_as(REL_OWNER, op_make) != 0) {
		(void)fprintf(stderr, "matrix: cannot make the branch\n");
		exit(2);
	}
	if (write_word("b/protected", "0") < 0 || chown("b", OWNER, GROUP) < 0 ||
	    chmod("b", shared ? 0750 : 0700) < 0) {
		perror("matrix: b");
		exit(2);
	}
	fd = open("b/status", O_RDONLY);
	n = read(fd, buf, sizeof(buf) - 1);
	(void)close(fd);
	buf[n > 0 ? n : 0] = '\0';
	end = strstr(buf, "\nno ");
	(void)snprintf(number, sizeof(number), "%ld",
		       end ? strtol(end + 4, NULL, 10) : 0);
}

int main(int argc, char **argv)
{
	unsigned cells = 0, bad = 0;

	if (argc != 2 || chdir(argv[1]) < 0)
		return 2;
	mnt = argv[1];
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (int shared = 0; shared < 2; shared++)
			for (int rel = 0; rel < RELS; rel++) {
				int want =
					expected(&rows[i], (enum relation)rel, shared);
				int got;

				prepare(shared);
				got = run_as((enum relation)rel, rows[i].op);
				cells++;
				if (got == want)
					continue;
				bad++;
				printf("FAILED: %s, %s, by %s: %s, not %s\n",
				       rows[i].name, shared ? "shared" : "private",
				       rels[rel].name, strerror(got), strerror(want));
			}
	printf("%u cells, %u differ\n", cells, bad);
	return bad > 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* access.c - modes, owners, umask, who may what.  As root most answers are yes. */
#include "suite.h"

static bool is_root(void)
{
	return geteuid() == 0;
}

static void chmod_files(void)
{
	static const mode_t modes[] = {0000, 0400, 0200, 0644, 01777, 0111, 0600};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		int fd = open("low/f0", O_RDWR);

		CHECK(fd >= 0 && fchmod(fd, modes[i]) == 0);
		CHECK(mode_of("low/f0") == modes[i]);
		CHECK(pwrite(fd, "M", 1, (off_t)(i * 8192)) == 1 && fsync(fd) == 0);
		if (!is_root() && !(modes[i] & 0400))
			FAILS(open("low/f0", O_RDONLY), EACCES);
		if (!is_root() && !(modes[i] & 0200)) {
			FAILS(open("low/f0", O_WRONLY), EACCES);
			FAILS(open("low/f0", O_RDONLY | O_TRUNC), EACCES);
			FAILS(truncate("low/f0", 0), EACCES);
			FAILS(access("low/f0", W_OK), EACCES);
		}
		if (!(modes[i] & 0111))
			FAILS(access("low/f0", X_OK), EACCES);
		CHECK(fchmod(fd, 0600) == 0 && close(fd) == 0);
	}
	FAILS(chmod("no", 0600), ENOENT);
	CHECK(chmod("low/sym", 0640) == 0 && mode_of("low/f0") == 0640);
	CHECK(chmod("low/fifo", 0644) == 0 && mode_of("low/fifo") == 0644);
}

static void chmod_dirs(void)
{
	CHECK(chmod("low/d", 0500) == 0 && mode_of("low/d") == 0500);
	if (!is_root()) {
		FAILS(touch("low/d/new"), EACCES);
		FAILS(unlink("low/d/x"), EACCES);
		FAILS(mkdir("low/d/new", 0700), EACCES);
		FAILS(rmdir("low/d/sub"), EACCES);
		FAILS(rename("low/d/x", "x"), EACCES);
		FAILS(rename("low/f1", "low/d/x"), EACCES);
		FAILS(link("low/f1", "low/d/l"), EACCES);
		FAILS(symlink("low/f1", "low/d/l"), EACCES);
		FAILS(mkfifo("low/d/l", 0600), EACCES);
	}
	CHECK(chmod("low/d", 0300) == 0 && touch("low/d/new") == 0);
	if (!is_root())
		FAILS(opendir("low/d") ? 0 : -1, EACCES);
	CHECK(chmod("low/d", 0600) == 0);
	if (!is_root()) {
		FAILS(access("low/d/x", F_OK), EACCES);
		FAILS(open("low/d/x", O_RDONLY), EACCES);
		FAILS(chdir("low/d"), EACCES);
	}
	CHECK(chmod("low/d", 01777) == 0 && mode_of("low/d") == 01777);
	CHECK(chmod("low/d", 02755) == 0 && mode_of("low/d") == 02755);
	/* directories below one with set-group-id have it too, files not */
	CHECK(mkdir("low/d/in", 0700) == 0 && mode_of("low/d/in") == 02700);
	CHECK(mkdir("low/d/in/in", 0755) == 0 && mode_of("low/d/in/in") == 02755);
	CHECK(touch("low/d/file") == 0 && mode_of("low/d/file") == 0600);
}

static void masks(void)
{
	mode_t old = umask(027);

	CHECK(close(open("file", O_CREAT | O_WRONLY, 0666)) == 0);
	CHECK(mode_of("file") == 0640);
	CHECK(mkdir("dir", 0777) == 0 && mode_of("dir") == 0750);
	CHECK(mkfifo("fifo", 0666) == 0 && mode_of("fifo") == 0640);
	(void)umask(0);
	CHECK(close(open("file2", O_CREAT | O_WRONLY, 0777)) == 0);
	CHECK(mode_of("file2") == 0777);
	CHECK(mkdir("dir2", 01777) == 0 && mode_of("dir2") == 01777);
	CHECK(close(open("file3", O_CREAT | O_WRONLY, 06755)) == 0);
	CHECK(mode_of("file3") == 06755);
	(void)umask(0777);
	CHECK(close(open("file4", O_CREAT | O_WRONLY, 0777)) == 0);
	CHECK(mode_of("file4") == 0);
	(void)umask(old);
}

/* Who is not root and writes takes the bits away that give others his rights. */
static void suid_goes(void)
{
	int fd;

	if (is_root()) {
		leave_out("root keeps the bits");
		return;
	}
	CHECK(chmod("low/f2", 06755) == 0 && mode_of("low/f2") == 06755);
	fd = open("low/f2", O_RDWR);
	CHECK(pwrite(fd, "x", 1, 0) == 1 && mode_of("low/f2") == 0755);
	CHECK(fchmod(fd, 04755) == 0 && ftruncate(fd, 10) == 0);
	CHECK(mode_of("low/f2") == 0755);
	CHECK(fchmod(fd, 02745) == 0 && pwrite(fd, "x", 1, 0) == 1);
	CHECK(mode_of("low/f2") == 02745 || mode_of("low/f2") == 0745);
	CHECK(fchmod(fd, 04755) == 0 && fallocate(fd, 0, 0, 100) == 0);
	CHECK(mode_of("low/f2") == 0755 && close(fd) == 0);
	CHECK(chmod("low/f2", 04755) == 0 && close(open("low/f2", O_RDONLY)) == 0);
	CHECK(mode_of("low/f2") == 04755);
	CHECK(truncate("low/f2", 5) == 0 && mode_of("low/f2") == 0755);
}

static void owners(void)
{
	struct stat st = lstat_of("low/f3");
	int fd;

	CHECK(chown("low/f3", st.st_uid, st.st_gid) == 0);
	CHECK(chown("low/f3", (uid_t)-1, (gid_t)-1) == 0);
	CHECK(lchown("low/sym", st.st_uid, (gid_t)-1) == 0);
	fd = open("low/f3", O_RDONLY);
	CHECK(fchown(fd, (uid_t)-1, st.st_gid) == 0 && close(fd) == 0);
	FAILS(chown("no", st.st_uid, st.st_gid), ENOENT);
	if (is_root() && on_branch())
		leave_out("data belongs to the server's uid, all of it");
	if (!is_root() || on_branch()) {
		FAILS(chown("low/f3", st.st_uid + 1, (gid_t)-1), EPERM);
		FAILS(chown("low/d", (uid_t)-1, st.st_gid + 1), EPERM);
	}
	CHECK(touch("new") == 0 && lstat_of("new").st_uid == st.st_uid &&
	      lstat_of("new").st_gid == st.st_gid);
}

const struct posix_case access_cases[] = {
	{"chmod-files", chmod_files}, {"chmod-dirs", chmod_dirs}, {"masks", masks},
	{"suid-goes", suid_goes},     {"owners", owners},         {NULL, NULL},
};

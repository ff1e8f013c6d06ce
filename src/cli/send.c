/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs send: a branch or checkpoint as one stream on standard output.
 *
 * What is sent is a branch that is made of it for that purpose and discarded behind it:
 * so it is one state, with every commit that was acknowledged before, however the
 * original is written meanwhile.  It has an end of life, should this process be killed.
 */
#include "cli/cli.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/listing.h"
#include "cli/mounts.h"
#include "cli/zpipe.h"
#include "store/stream.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <zlib.h>

#define LIFETIME "1d"
#define DEPTH_MAX 64

/* A file with more than one name. */
struct known_file {
	ino_t ino;
	uint64_t id;
};

struct send {
	struct mount_entry mount;
	char *name, *checkpoint; /* what is sent; owned */
	const char *since;       /* the checkpoint that the receiver has; NULL: none */
	char *copy;              /* the branch that is read; NULL: not made */
	char *base;              /* likewise, of `since` */
	char path[4096];         /* below the data directory */
	struct zout *out;
	uint64_t last_id, records, bytes;
	struct known_file *files;
	size_t nfiles;
	time_t shown;
	struct err *e;
	uint8_t buf[STREAM_RECORD + STREAM_PAYLOAD_MAX];
	uint8_t bytes_buf[STREAM_BYTES_MAX];
};

static atomic_bool interrupted;

static void on_signal(int sig)
{
	(void)sig;
	atomic_store(&interrupted, true);
}

/* --- the branch that is read --- */

static int daemon_error(struct send *s, int rc, const char *what)
{
	CLEAN(clean_free) char *path = text_format("%s/.error", s->mount.mountpoint);
	CLEAN(clean_free) char *text = NULL;

	if (path && fd_read_file(AT_FDCWD, path, 65536, &text, NULL) == 0 && text[0])
		return err_set(s->e, rc, "%.*s", (int)strcspn(text, "\n"), text);
	return err_set(s->e, rc, "%s: %s", what, strerrordesc_np(-rc));
}

static int make_copy(struct send *s, const char *prefix, const char *checkpoint,
		     char **ret_copy)
{
	CLEAN(clean_free) char *copy = text_format("%s-%d", prefix, (int)getpid());
	CLEAN(clean_free) char *spec = NULL, *expires = NULL;
	int fd;

	if (copy)
		spec = text_format("%s/%s@%s%s%s", s->mount.mountpoint, copy, s->name,
				   checkpoint ? ":" : "", checkpoint ? checkpoint : "");
	if (copy)
		expires = text_format("%s/%s/expires", s->mount.mountpoint, copy);
	if (!spec || !expires)
		return err_set(s->e, -ENOMEM, "out of memory");
	if (mkdir(spec, 0700) < 0)
		return daemon_error(s, -errno, "cannot make a branch of it");
	*ret_copy = steal(copy);
	fd = open(expires, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!write(fd, LIFETIME, strlen(LIFETIME)); /* else it stays until gc
							       */
		(void)close(fd);
	}
	return 0;
}

static void remove_paths(const char *pattern)
{
	glob_t g = {.gl_pathc = 0};

	if (pattern && glob(pattern, GLOB_NOSORT, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			if (rmdir(g.gl_pathv[i]) < 0)
				(void)fprintf(stderr,
					      "pgbranchfs: cannot remove '%s': %s\n",
					      g.gl_pathv[i], strerrordesc_np(errno));
	globfree(&g);
}

/* Also from the trash, where there is one. */
static void remove_copy(const struct send *s, const char *copy)
{
	CLEAN(clean_free) char *path = text_format("%s/%s", s->mount.mountpoint, copy);
	CLEAN(clean_free)
	char *trash = text_format("%s/.trash/%s@*", s->mount.mountpoint, copy);

	remove_paths(path);
	remove_paths(trash);
}

static void send_fini(struct send *s)
{
	if (s->copy)
		remove_copy(s, s->copy);
	if (s->base)
		remove_copy(s, s->base);
	zout_free(s->out);
	free(s->name);
	free(s->checkpoint);
	free(s->copy);
	free(s->base);
	free(s->files);
	mount_entry_fini(&s->mount);
}

/* --- records --- */

static void show_progress(struct send *s)
{
	time_t now = time(NULL);
	char size[8], sent[8];

	if (now == s->shown || !isatty(STDERR_FILENO))
		return;
	s->shown = now;
	listing_size(s->bytes, size);
	listing_size(zout_sent(s->out), sent);
	(void)fprintf(stderr, "\r%s read, %s sent   ", size, sent);
}

static int put(struct send *s, const struct stream_record *r)
{
	int n = stream_encode(r, s->buf);

	if (n < 0)
		return n;
	if (r->type != STREAM_HEADER && r->type != STREAM_END)
		s->records++;
	if (atomic_load(&interrupted))
		return -EINTR;
	show_progress(s);
	return zout_write(s->out, s->buf, (size_t)n);
}

static int put_bytes(struct send *s, const uint8_t *p, size_t len, uint64_t off)
{
	const struct stream_record r = {.type = STREAM_BYTES,
					.bytes = p,
					.len = (uint32_t)len,
					.off_bytes = off};

	s->bytes += len;
	return put(s, &r);
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* What is a hole is not sent, and zeros need not be. */
static int put_file(struct send *s, int fd, uint64_t size)
{
	int rc = 0;

	for (off_t off = 0; rc == 0 && (uint64_t)off < size;) {
		off_t data = lseek(fd, off, SEEK_DATA);
		ssize_t n;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		n = fd_pread_full(fd, s->bytes_buf, sizeof(s->bytes_buf),
				  (uint64_t)data);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		if (!is_zero(s->bytes_buf, (size_t)n))
			rc = put_bytes(s, s->bytes_buf, (size_t)n, (uint64_t)data);
		off = data + n;
	}
	return rc;
}

/* What the receiver has at the same path, and where it differs.  Its sum finds out if
 * that is something else there. */
static int put_difference(struct send *s, int fd, int basefd, uint64_t size)
{
	struct stream_record r = {.type = STREAM_SAME,
				  .bytes = (const uint8_t *)s->path,
				  .len = (uint32_t)strlen(s->path)};
	static uint8_t old[STREAM_BYTES_MAX];
	uint32_t sum = 0;
	int rc = put(s, &r);

	for (uint64_t off = 0; rc == 0 && off < size; off += sizeof(old)) {
		ssize_t n = fd_pread_full(fd, s->bytes_buf, sizeof(old), off);
		ssize_t m = fd_pread_full(basefd, old, sizeof(old), off);

		if (n <= 0 || m < 0)
			return n < 0 ? (int)n : m < 0 ? (int)m : -EIO;
		memset(old + m, 0, sizeof(old) - (size_t)m);
		sum = (uint32_t)crc32_z(sum, s->bytes_buf, (z_size_t)n);
		if (memcmp(old, s->bytes_buf, (size_t)n) != 0)
			rc = put_bytes(s, s->bytes_buf, (size_t)n, off);
	}
	r = (struct stream_record){.type = STREAM_CHECK, .sum = sum};
	return rc < 0 ? rc : put(s, &r);
}

/* The number that a file with several names has by now; 0: this is the first. */
static uint64_t *find_file(struct send *s, ino_t ino)
{
	struct known_file *v;

	for (size_t i = 0; i < s->nfiles; i++)
		if (s->files[i].ino == ino)
			return &s->files[i].id;
	v = realloc(s->files, (s->nfiles + 1) * sizeof(*v));
	if (!v)
		return NULL;
	s->files = v;
	v[s->nfiles] = (struct known_file){.ino = ino};
	return &v[s->nfiles++].id;
}

static int put_dir(struct send *s, int fd, int basefd, uint64_t id, unsigned depth);

static int put_symlink(struct send *s, int dirfd, struct stream_record *r)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, r->name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	r->target = target;
	return put(s, r);
}

static int put_regular(struct send *s, int dirfd, int basedir, struct stream_record *r,
		       const struct stat *st)
{
	CLEAN(clean_fd) int fd = -1, base = -1;
	struct stat old;
	uint64_t *id = st->st_nlink > 1 ? find_file(s, st->st_ino) : NULL;
	int rc;

	if (st->st_nlink > 1 && !id)
		return -ENOMEM;
	if (id && *id) {
		s->last_id--; /* it needs none of its own */
		r->id = *id;
		r->type = STREAM_LINK;
		return put(s, r);
	}
	if (id)
		*id = r->id;
	fd = openat(dirfd, r->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (basedir >= 0)
		base = openat(basedir, r->name,
			      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	rc = put(s, r);
	if (rc == 0 && base >= 0 && fstat(base, &old) == 0 && S_ISREG(old.st_mode))
		return put_difference(s, fd, base, r->size_bytes);
	return rc < 0 ? rc : put_file(s, fd, r->size_bytes);
}

static int put_entry(struct send *s, int dirfd, int basedir, uint64_t parent,
		     const char *name, unsigned depth)
{
	struct stream_record r = {.parent = parent, .name = name};
	CLEAN(clean_fd) int fd = -1, base = -1;
	struct stat st;
	int rc;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return 0; /* a socket or fifo is of no use to a copy */
	r.id = ++s->last_id;
	r.mode = st.st_mode & 07777;
	r.mtime_s = st.st_mtim.tv_sec;
	r.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	if (S_ISLNK(st.st_mode)) {
		r.type = STREAM_SYMLINK;
		return put_symlink(s, dirfd, &r);
	}
	if (S_ISREG(st.st_mode)) {
		r.type = STREAM_FILE;
		r.size_bytes = (uint64_t)st.st_size;
		return put_regular(s, dirfd, basedir, &r, &st);
	}
	r.type = STREAM_DIR;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (basedir >= 0)
		base = openat(basedir, name,
			      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	rc = put(s, &r);
	return rc < 0 ? rc : put_dir(s, fd, base, r.id, depth + 1);
}

/* With its name at the end of the path. */
static int put_named(struct send *s, int fd, int basefd, uint64_t id, const char *name,
		     unsigned depth)
{
	size_t was = strlen(s->path);
	int n = snprintf(s->path + was, sizeof(s->path) - was, "%s%s", was ? "/" : "",
			 name);
	int rc = -ENAMETOOLONG;

	if (n > 0 && (size_t)n < sizeof(s->path) - was)
		rc = put_entry(s, fd, basefd, id, name, depth);
	s->path[was] = '\0';
	return rc;
}

static int put_dir(struct send *s, int fd, int basefd, uint64_t id, unsigned depth)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc = 0;
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *ent;

	if (!d)
		return -errno;
	if (depth > DEPTH_MAX)
		rc = -ELOOP;
	while (rc == 0) {
		errno = 0;
		ent = readdir(d);
		if (!ent) {
			rc = -errno;
			break;
		}
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			rc = put_named(s, fd, basefd, id, ent->d_name, depth);
	}
	(void)closedir(d);
	return rc;
}

/* --- the stream --- */

/* The first eight bytes of pg_control, in this machine's order. */
static uint64_t system_identifier(int datafd)
{
	CLEAN(clean_fd)
	int fd = openat(datafd, "global/pg_control", O_RDONLY | O_CLOEXEC);
	uint64_t v = 0;

	if (fd < 0 || fd_pread_full(fd, &v, sizeof(v), 0) != (ssize_t)sizeof(v))
		return 0;
	return v;
}

static int put_header(struct send *s, int datafd)
{
	CLEAN(clean_free) char *version = NULL, *text = NULL;
	struct stream_record r = {.type = STREAM_HEADER};
	uint8_t head[STREAM_HEAD];
	char when[21];
	int rc;

	if (fd_read_file(datafd, "PG_VERSION", 16, &version, NULL) == 0)
		version[strcspn(version, "\n")] = '\0';
	text_format_time(time(NULL), when);
	text = text_format("branch %s\ncheckpoint %s\nsince %s\npostgres_version %s\n"
			   "system_identifier %llu\nsent %s\npgbranchfs %s\n",
			   s->name, s->checkpoint ? s->checkpoint : "-",
			   s->since ? s->since : "-", version ? version : "-",
			   (unsigned long long)system_identifier(datafd), when,
			   PACKAGE_VERSION);
	if (!text)
		return -ENOMEM;
	stream_head_encode(head);
	rc = zout_write(s->out, head, sizeof(head));
	r.bytes = (const uint8_t *)text;
	r.len = (uint32_t)strlen(text);
	return rc < 0 ? rc : put(s, &r);
}

static int put_all(struct send *s)
{
	CLEAN(clean_free)
	char *path = text_format("%s/%s/data", s->mount.mountpoint, s->copy);
	CLEAN(clean_free)
	char *base_path =
		s->base ? text_format("%s/%s/data", s->mount.mountpoint, s->base)
			: NULL;
	struct stream_record root = {.type = STREAM_DIR, .name = ""}, end;
	CLEAN(clean_fd) int fd = -1, base = -1;
	struct stat st;
	int rc;

	fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (base_path)
		base = open(base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->base && base < 0)
		return base_path ? -errno : -ENOMEM;
	rc = put_header(s, fd);
	root.id = ++s->last_id;
	root.mode = st.st_mode & 07777;
	root.mtime_s = st.st_mtim.tv_sec;
	root.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	if (rc == 0)
		rc = put(s, &root);
	if (rc == 0)
		rc = put_dir(s, fd, base, root.id, 0);
	end = (struct stream_record){.type = STREAM_END,
				     .records = s->records,
				     .total_bytes = s->bytes,
				     .sum = zout_sum(s->out)};
	if (rc == 0)
		rc = put(s, &end);
	return rc < 0 ? rc : zout_end(s->out);
}

/* "NAME[@C]", or that behind the path of a mount. */
static int parse_what(struct send *s, const char *what, const char *mountpoint)
{
	CLEAN(clean_free) char *path = NULL;
	const char *slash = strrchr(what, '/'), *at;
	bool dead;
	int rc;

	if (slash && !mountpoint)
		path = strndup(what, slash == what ? 1 : (size_t)(slash - what));
	what = slash ? slash + 1 : what;
	at = strchr(what, '@');
	s->name = at ? strndup(what, (size_t)(at - what)) : strdup(what);
	s->checkpoint = at ? strdup(at + 1) : NULL;
	if (!s->name || (at && !s->checkpoint) || (slash && !mountpoint && !path))
		return err_set(s->e, -ENOMEM, "out of memory");
	if (text_check_name(s->name) < 0 ||
	    (s->checkpoint && text_check_name(s->checkpoint) < 0)) {
		(void)err_set(s->e, -EINVAL, "'%s' is no branch or checkpoint", what);
		return err_hint(s->e, "NAME for a branch, NAME@C for its checkpoint C");
	}
	rc = mounts_choose(mountpoint ? mountpoint : path, &s->mount, &dead, s->e);
	if (rc == 0 && dead)
		rc = err_set(s->e, -ENOTCONN, "the daemon of '%s' is dead",
			     s->mount.mountpoint);
	return rc;
}

static int send_it(struct send *s, const char *what, const char *mountpoint)
{
	struct sigaction sa = {.sa_handler = on_signal}, ign = {.sa_handler = SIG_IGN};
	int rc = parse_what(s, what, mountpoint);

	if (rc < 0)
		return rc;
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	(void)sigaction(SIGPIPE, &ign, NULL);
	rc = zout_new(STDOUT_FILENO, &s->out);
	if (rc < 0)
		return err_set(s->e, rc, "out of memory");
	rc = make_copy(s, "send", s->checkpoint, &s->copy);
	if (rc == 0 && s->since)
		rc = make_copy(s, "since", s->since, &s->base);
	if (rc < 0)
		return rc;
	rc = put_all(s);
	if (s->shown)
		(void)fputc('\n', stderr);
	return rc < 0 ? err_set(s->e, rc, "cannot send '%s': %s", s->name,
				strerrordesc_np(-rc))
		      : 0;
}

static int run_send(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
						{"since", required_argument, NULL, 's'},
						{NULL, 0, NULL, 0}};
	static struct send s; /* its buffers are large */
	CLEAN(err_fini) struct err e = ERR_INIT;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(self);
		if (opt != 's')
			return cli_usage(self, NULL);
		if (text_check_name(optarg) < 0)
			return cli_usage(self, "'%s' is no name for a checkpoint",
					 optarg);
		s.since = optarg;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage(self,
				 "send takes a branch, and at most one directory");
	if (isatty(STDOUT_FILENO)) {
		(void)err_set(&e, -EINVAL, "a stream is nothing for a terminal");
		(void)err_hint(&e, "pgbranchfs send NAME | pgbranchfs receive STORE");
		return cli_fail(&e);
	}
	s.e = &e;
	rc = send_it(&s, argv[optind], argv[optind + 1]);
	send_fini(&s);
	return rc < 0 ? cli_fail(&e) : CLI_OK;
}

const struct cli_command cmd_send = {
	.name = "send",
	.args = "NAME[@CHECKPOINT] [--since CHECKPOINT] [MOUNTPOINT]",
	.summary = "Write a branch as a stream to standard output",
	.help = "  --since CHECKPOINT  only what changed since; the receiver has that "
		"one\n",
	.run = run_send,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * incoming.c - like an import, it goes through the layer module, on a layer that is
 * elsewhere.  The number of an object in the stream gives its number in the layer.
 *
 * Nothing is known of the directory until all of the stream was read and its sum was
 * right; then it is synced as a whole, renamed to layers/ID, and the branch's record is
 * written last.
 */
#include "store/incoming.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "store/registry_priv.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <zlib.h>

#define COPY_BYTES 65536

struct object {
	char type;
	uint32_t nlink;
	bool has_mode;
	mode_t mode;
	struct timespec mtime;
};

struct incoming {
	struct store store;
	struct layer *layer;
	char dir[INCOMING_NAME_MAX];
	int lock_fd;
	struct object *v; /* by number - 1 */
	size_t n, cap;
	struct bfile *file; /* the last one */
	uint64_t size_bytes;
	uint64_t records, bytes;
	int basefd; /* -1: none */
};

static int make_dir(struct incoming *in)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	uint8_t noise[6];

	if (getrandom(noise, sizeof(noise), 0) != (ssize_t)sizeof(noise))
		return -EIO;
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)letters[noise[i] % 32];
	(void)snprintf(in->dir, sizeof(in->dir), INCOMING_PREFIX "%.6s",
		       (const char *)noise);
	if (mkdirat(in->store.fd, in->dir, 0700) < 0)
		return -errno;
	in->lock_fd = openat(in->store.fd, in->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return in->lock_fd < 0 || flock(in->lock_fd, LOCK_EX | LOCK_NB) < 0 ? -errno
									    : 0;
}

int incoming_new(int storefd, struct incoming **ret_in, struct err *e)
{
	struct incoming *in = calloc(1, sizeof(*in));
	int rc = in ? 0 : -ENOMEM;

	if (!in)
		return err_set(e, rc, "out of memory");
	store_init(&in->store);
	in->store.fd = storefd;
	in->lock_fd = -1;
	in->basefd = -1;
	rc = fdcache_new(64, &in->store.fds);
	if (rc == 0)
		rc = make_dir(in);
	if (rc == 0) {
		in->layer = layer_new_scratch(&in->store, in->dir);
		rc = in->layer ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		incoming_free(in);
		return err_set(e, rc, "cannot make a directory in the store: %s",
			       strerror(-rc));
	}
	*ret_in = in;
	return 0;
}

struct incoming *incoming_free(struct incoming *in)
{
	if (!in)
		return NULL;
	bfile_put(in->file);
	layer_put(in->layer);
	if (in->dir[0] && fd_remove_tree(in->store.fd, in->dir) < 0)
		log_warn("%s: cannot remove; the next mount does", in->dir);
	clean_fd(&in->lock_fd);
	fdcache_free(in->store.fds);
	store_fini(&in->store);
	free(in->v);
	free(in);
	return NULL;
}

const char *incoming_dir(const struct incoming *in)
{
	return in->dir;
}

void incoming_count(const struct incoming *in, uint64_t *ret_records,
		    uint64_t *ret_bytes)
{
	*ret_records = in->records;
	*ret_bytes = in->bytes;
}

/* --- records --- */

static uint64_t fid_of(uint64_t id)
{
	return OVERLAY_ROOT - STREAM_ROOT + id;
}

static struct object *object(const struct incoming *in, uint64_t id)
{
	return id > 0 && id <= in->n ? &in->v[id - 1] : NULL;
}

/* Numbers come one after the other. */
static int add_object(struct incoming *in, const struct stream_record *r)
{
	if (r->id != in->n + 1 || fid_of(r->id) >= FRESH_FID_FIRST)
		return -EBADMSG;
	if (in->n == in->cap) {
		size_t cap = in->cap ? in->cap * 2 : 1024;
		struct object *v = realloc(in->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		in->v = v;
		in->cap = cap;
	}
	in->v[in->n++] = (struct object){.type = (char)r->type,
					 .nlink = 1,
					 .mode = r->mode,
					 .mtime = {r->mtime_s, r->mtime_ns}};
	return 0;
}

static int set_attrs(struct incoming *in, uint64_t id)
{
	const struct object *ob = object(in, id);
	struct attrs a = {
		.has_mode = ob->has_mode, .mode = ob->mode, .nlink = ob->nlink};

	return layer_set_attrs(in->layer, fid_of(id), &a);
}

/* The bytes of the last file are complete. */
static int end_file(struct incoming *in)
{
	const struct object *ob = in->n ? &in->v[in->n - 1] : NULL;
	const struct timespec times[2] = {ob ? ob->mtime : (struct timespec){0, 0},
					  ob ? ob->mtime : (struct timespec){0, 0}};
	int fd, rc = 0;

	if (!in->file)
		return 0;
	fd = bfile_pin(in->file);
	if (fd < 0)
		rc = fd;
	else if (futimens(fd, times) < 0)
		rc = -errno;
	if (fd >= 0)
		bfile_unpin(in->file);
	in->file = bfile_put(in->file);
	return rc;
}

static int make_symlink(struct incoming *in, const struct stream_record *r)
{
	const struct timespec mtime = {r->mtime_s, r->mtime_ns};
	const struct timespec times[2] = {mtime, mtime};
	char path[BFILE_PATH_MAX];
	int rc = layer_make_symlink(in->layer, fid_of(r->id), r->target);

	layer_part_path(in->layer, PART_FULL, fid_of(r->id), path);
	if (rc == 0 && utimensat(in->store.fd, path, times, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	return rc;
}

static int make_object(struct incoming *in, const struct stream_record *r)
{
	uint64_t fid = fid_of(r->id);
	mode_t carried = r->type == STREAM_DIR ? 0700 : 0600;
	struct object *ob = &in->v[r->id - 1];
	int rc;

	if (r->type == STREAM_SYMLINK)
		return make_symlink(in, r);
	if (r->type == STREAM_DIR) {
		rc = layer_make_dirnames(in->layer, fid, r->mode, NULL);
	} else {
		in->size_bytes = r->size_bytes;
		rc = layer_make_file(in->layer, fid, BFILE_FULL, r->mode, r->size_bytes,
				     &in->file);
	}
	ob->has_mode = (r->mode & carried) != carried || (r->mode & 07000) != 0;
	if (rc == 0 && ob->has_mode)
		rc = set_attrs(in, r->id);
	return rc;
}

static enum entry_kind kind_of(enum stream_type t)
{
	return t == STREAM_DIR       ? ENTRY_DIR
	       : t == STREAM_SYMLINK ? ENTRY_SYMLINK
				     : ENTRY_FILE;
}

static int take_object(struct incoming *in, const struct stream_record *r)
{
	const struct object *dir = object(in, r->parent);
	struct object *ob;
	int rc = 0;

	if (r->id == STREAM_ROOT ? r->type != STREAM_DIR
				 : !dir || dir->type != STREAM_DIR)
		return -EBADMSG;
	if (r->parent && layer_entry(in->layer, fid_of(r->parent), r->name))
		return -EBADMSG; /* a name twice */
	if (r->type == STREAM_LINK) {
		ob = object(in, r->id);
		if (!ob || ob->type != STREAM_FILE)
			return -EBADMSG;
		ob->nlink++;
		rc = set_attrs(in, r->id);
	} else {
		rc = add_object(in, r);
		if (rc == 0)
			rc = make_object(in, r);
	}
	if (rc < 0 || r->id == STREAM_ROOT)
		return rc;
	return layer_set_entry(in->layer, fid_of(r->parent), r->name, kind_of(r->type),
			       fid_of(r->id));
}

static int take_bytes(struct incoming *in, const struct stream_record *r)
{
	int fd, rc;

	if (!in->file || r->off_bytes > in->size_bytes ||
	    r->len > in->size_bytes - r->off_bytes)
		return -EBADMSG;
	fd = bfile_pin(in->file);
	if (fd < 0)
		return fd;
	rc = FAULT_FAILS("incoming.pwrite", NULL)
		     ? -errno
		     : fd_pwrite_full(fd, r->bytes, r->len, r->off_bytes);
	bfile_unpin(in->file);
	in->bytes += r->len;
	return rc;
}

void incoming_set_base(struct incoming *in, int basefd)
{
	in->basefd = basefd;
}

/* Copies what the base has there; zeros stay holes. */
static int copy_base(struct incoming *in, int from, int to)
{
	CLEAN(clean_free) uint8_t *buf = malloc(COPY_BYTES);
	ssize_t n = buf ? 1 : -ENOMEM;
	int rc = 0;

	for (uint64_t off = 0; rc == 0 && n > 0 && off < in->size_bytes;
	     off += (uint64_t)n) {
		size_t want = in->size_bytes - off < COPY_BYTES
				      ? (size_t)(in->size_bytes - off)
				      : COPY_BYTES;

		n = fd_pread_full(from, buf, want, off);
		if (n > 0 && (buf[0] != 0 || memcmp(buf, buf + 1, (size_t)n - 1) != 0))
			rc = fd_pwrite_full(to, buf, (size_t)n, off);
	}
	return n < 0 ? (int)n : rc;
}

static int take_same(struct incoming *in, const struct stream_record *r)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	CLEAN(clean_free) char *path = strndup((const char *)r->bytes, r->len);
	CLEAN(clean_fd) int from = -1;
	struct stat st;
	int to, rc;

	if (!in->file || !path)
		return path ? -EBADMSG : -ENOMEM;
	if (in->basefd < 0)
		return -ESTALE;
	from = (int)syscall(SYS_openat2, in->basefd, path, &how, sizeof(how));
	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return -ESTALE;
	to = bfile_pin(in->file);
	if (to < 0)
		return to;
	rc = copy_base(in, from, to);
	bfile_unpin(in->file);
	return rc;
}

/* All bytes of the last file, holes as the zeros that they are. */
static int take_check(struct incoming *in, const struct stream_record *r)
{
	CLEAN(clean_free) uint8_t *buf = malloc(COPY_BYTES);
	uint32_t sum = 0;
	int fd, rc = 0;

	if (!in->file || !buf)
		return buf ? -EBADMSG : -ENOMEM;
	fd = bfile_pin(in->file);
	if (fd < 0)
		return fd;
	for (uint64_t off = 0; rc == 0 && off < in->size_bytes; off += COPY_BYTES) {
		ssize_t n = fd_pread_full(fd, buf, COPY_BYTES, off);

		rc = n < 0 ? (int)n : 0;
		if (n > 0)
			sum = (uint32_t)crc32_z(sum, buf, (z_size_t)n);
	}
	bfile_unpin(in->file);
	return rc < 0 ? rc : sum == r->sum ? 0 : -ESTALE;
}

static int take_record(struct incoming *in, const struct stream_record *r)
{
	int rc;

	if (r->type == STREAM_BYTES)
		return take_bytes(in, r);
	if (r->type == STREAM_SAME)
		return take_same(in, r);
	if (r->type == STREAM_CHECK)
		return take_check(in, r);
	rc = end_file(in);
	return rc < 0 ? rc : take_object(in, r);
}

int incoming_record(struct incoming *in, const struct stream_record *r, struct err *e)
{
	int rc;

	in->records++;
	rc = take_record(in, r);
	if (rc == 0)
		return 0;
	if (rc == -ESTALE) {
		(void)err_set(e, rc, "the difference does not fit what is here");
		return err_hint(e,
				"send all of it, without --since, or name what it is "
				"a difference to with --base");
	}
	if (rc == -EBADMSG)
		(void)err_set(e, rc, "the stream is damaged: a record does not fit in");
	else
		(void)err_set(e, rc, "cannot write what was received: %s",
			      strerrordesc_np(-rc));
	return err_hint(e, "nothing of it was taken over; send it again");
}

/* Times of directories last, as names that are made in them change it. */
static int set_dir_times(struct incoming *in)
{
	for (size_t i = 0; i < in->n; i++) {
		const struct timespec times[2] = {in->v[i].mtime, in->v[i].mtime};
		char path[BFILE_PATH_MAX];

		if (in->v[i].type != STREAM_DIR)
			continue;
		layer_part_path(in->layer, PART_NAMES, fid_of(i + 1), path);
		if (utimensat(in->store.fd, path, times, 0) < 0)
			return -errno;
	}
	return 0;
}

int incoming_finish(struct incoming *in, struct err *e)
{
	int rc = in->n > 0 ? end_file(in) : -EBADMSG;

	if (rc == 0)
		rc = set_dir_times(in);
	FAULT_POINT("incoming.written");
	/* thousands of small files: as a whole it is one wait */
	if (rc == 0 &&
	    (FAULT_FAILS("incoming.syncfs", NULL) || syncfs(in->store.fd) < 0))
		rc = -errno;
	if (rc < 0)
		return err_set(e, rc, "cannot write what was received: %s",
			       strerror(-rc));
	return 0;
}

/* --- adopting --- */

bool incoming_is_dir(const char *name)
{
	size_t n = strlen(INCOMING_PREFIX);

	return strncmp(name, INCOMING_PREFIX, n) == 0 && strlen(name) == n + 6 &&
	       strspn(name + n, "abcdefghijklmnopqrstuvwxyz012345") == 6;
}

bool incoming_is_left(int storefd, const char *name)
{
	CLEAN(clean_fd)
	int fd = openat(storefd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return incoming_is_dir(name) && fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* The directory becomes layers/ID, with its record; nobody stands on it yet. */
static int place_layer(struct registry *r, const char *dir, struct layer *l)
{
	struct layer_meta m = {.id = l->id};
	CLEAN(clean_free) char *text = layer_meta_encode(&m), *path = NULL;
	int fd = r->store.fd, rc = -ENOMEM;

	if (!text || asprintf(&path, "%s/layer.ini", dir) < 0)
		return rc;
	rc = fd_replace_file(fd, path, text, strlen(text), 0600, 1);
	if (rc == 0 &&
	    (FAULT_FAILS("adopt.rename", dir) || renameat(fd, dir, fd, l->dir) < 0))
		rc = -errno;
	FAULT_POINT("adopt.placed");
	if (rc == 0)
		rc = fd_sync_dir(fd, "layers");
	return rc < 0 ? rc : fd_sync_dir(fd, ".");
}

int registry_adopt(struct registry *r, const char *dir, const struct branch_spec *spec,
		   struct branch **ret_branch, struct err *e)
{
	struct layer *l;
	int rc;

	if (!incoming_is_dir(dir))
		return err_set(e, -EINVAL, "'%s' is nothing that was received", dir);
	LOCK_SCOPE(&r->change);
	rc = registry_check_name(r, spec->name, e);
	if (rc == 0)
		rc = records_failed(r);
	if (rc < 0)
		return rc;
	l = layer_new(&r->store, r->next_layer, NULL, false);
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	r->next_layer++;
	rc = place_layer(r, dir, l);
	if (rc < 0) {
		layer_put(l);
		return err_set(e, rc, "cannot put what was received in its place: %s",
			       strerror(-rc));
	}
	atomic_store(&l->sealed, true);
	atomic_store(&l->durable, true);
	rc = registry_add_on(r, spec, l, ret_branch, e);
	FAULT_POINT("adopt.saved");
	layer_put(l); /* the branch has it, or it is an orphan of the next mount */
	return rc;
}

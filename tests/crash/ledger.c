/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger - changes files at random and notes, outside, what was promised of them; after
 * a crash it checks the files against its notes.
 *
 *   ledger run DIR LOG SEED OPS     works in DIR (made if need be), appends to LOG;
 *                                   exit 3 when the file system went away meanwhile
 *   ledger check DIR LOG [FROM TO]  FROM: bytes of LOG whose promises must be kept; TO:
 *                                   bytes of it that may have happened (default: all)
 *
 * A file is an array of cells of 1 KiB, filled with (file, cell, version).  A line of
 * the log is an operation that begins, "+" that it succeeded:
 *
 *   C name file         create        W name cell n version   write n cells
 *   T name cells        truncate      P name cell n           punch a hole
 *   S name              fsync         R name name2            rename
 *   U name              unlink        D                       fsync of the directory
 *
 * What a crash may leave: of each cell a version that was written since the file's
 * last fsync, or that one's; of a name a meaning that it had since the directory's last
 * fsync; of a size all between the smallest and the largest since.  Zeros are version
 * 0, and may show where the file was shorter at some time since.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CELL 1024
#define CELLS 384 /* the longest file: 48 blocks of 8 KiB */
#define NAMES 10
#define FILES 65536
#define SET_MAX 24 /* values that one thing may have had; more: anything goes */

/* What a thing may be after a crash. */
struct set {
	uint32_t v[SET_MAX];
	unsigned n; /* the last one is the present value */
	bool any;
};

struct file {
	struct set cells[CELLS];
	unsigned size, lo, hi; /* in cells: now, and what it may be */
	bool synced;           /* its bytes were promised at least once */
	bool removed;          /* its name was taken away or given to another */
};

static struct file *files[FILES];
static struct set names[NAMES]; /* file numbers, 0: not there */
static const char *dir_path;
static unsigned failures;

static void set_to(struct set *s, uint32_t v)
{
	s->v[0] = v;
	s->n = 1;
	s->any = false;
}

static uint32_t set_now(const struct set *s)
{
	return s->n ? s->v[s->n - 1] : 0;
}

static bool set_has(const struct set *s, uint32_t v)
{
	if (s->any || (s->n == 0 && v == 0))
		return true;
	for (unsigned i = 0; i < s->n; i++)
		if (s->v[i] == v)
			return true;
	return false;
}

/* v becomes the present value; the earlier ones stay possible. */
static void set_add(struct set *s, uint32_t v)
{
	if (s->n == 0)
		s->v[s->n++] = 0;
	if (s->n == SET_MAX) {
		s->any = true;
		s->n--;
	}
	s->v[s->n++] = v;
}

/* v becomes possible, the present value stays. */
static void set_allow(struct set *s, uint32_t v)
{
	uint32_t now = set_now(s);

	if (set_has(s, v))
		return;
	set_add(s, v);
	set_add(s, now);
}

/* ---- the model ---- */

static struct file *file_at(uint32_t id)
{
	if (id == 0 || id >= FILES) {
		fprintf(stderr, "ledger: file number %u\n", id);
		exit(2);
	}
	if (!files[id])
		files[id] = calloc(1, sizeof(*files[id]));
	if (!files[id])
		exit(2);
	return files[id];
}

static void model_write(struct file *f, unsigned cell, unsigned n, uint32_t version)
{
	for (unsigned c = cell; c < cell + n && c < CELLS; c++) {
		set_add(&f->cells[c], version);
		if (c >= f->lo)
			set_allow(&f->cells[c], 0);
	}
	/* a write behind the end leaves a hole in front of it */
	for (unsigned c = f->size; c < cell && c < CELLS; c++)
		set_add(&f->cells[c], 0);
	if (cell + n > f->size)
		f->size = cell + n;
	if (f->size > f->hi)
		f->hi = f->size;
}

static void model_truncate(struct file *f, unsigned cells)
{
	for (unsigned c = cells < f->size ? cells : f->size; c < CELLS; c++)
		set_add(&f->cells[c], 0);
	f->size = cells;
	if (cells < f->lo)
		f->lo = cells;
	if (cells > f->hi)
		f->hi = cells;
}

static void model_punch(struct file *f, unsigned cell, unsigned n)
{
	for (unsigned c = cell; c < cell + n && c < CELLS; c++)
		set_add(&f->cells[c], 0);
}

static void model_sync(struct file *f)
{
	for (unsigned c = 0; c < CELLS; c++)
		set_to(&f->cells[c], set_now(&f->cells[c]));
	f->lo = f->hi = f->size;
	f->synced = true;
}

static void drop_name(unsigned name)
{
	uint32_t id = set_now(&names[name]);

	if (id)
		file_at(id)->removed = true;
}

struct op {
	char kind;
	unsigned name, a, b;
	uint32_t version;
};

/* An operation began: what it does is possible from now on. */
static void model_begin(const struct op *op)
{
	struct file *f = NULL;
	uint32_t id = set_now(&names[op->name]);

	if (strchr("WTP", op->kind))
		f = file_at(id);
	switch (op->kind) {
	case 'C':
		set_add(&names[op->name], op->version);
		(void)file_at(op->version);
		break;
	case 'W':
		model_write(f, op->a, op->b, op->version);
		break;
	case 'T':
		model_truncate(f, op->a);
		break;
	case 'P':
		model_punch(f, op->a, op->b);
		break;
	case 'R':
		drop_name(op->a);
		set_add(&names[op->a], id);
		set_add(&names[op->name], 0);
		break;
	case 'U':
		drop_name(op->name);
		set_add(&names[op->name], 0);
		break;
	default:
		break;
	}
}

/* It succeeded: what it promised holds. */
static void model_done(const struct op *op)
{
	if (op->kind == 'S')
		model_sync(file_at(set_now(&names[op->name])));
	if (op->kind == 'D')
		for (unsigned i = 0; i < NAMES; i++)
			set_to(&names[i], set_now(&names[i]));
}

/* ---- the log ---- */

static int log_fd;

static void log_line(const char *line)
{
	size_t len = strlen(line);

	if (write(log_fd, line, len) != (ssize_t)len) {
		perror("ledger: log");
		exit(2);
	}
}

static void log_begin(const struct op *op)
{
	char line[64];

	(void)snprintf(line, sizeof(line), "%c %u %u %u %u\n", op->kind, op->name,
		       op->a, op->b, op->version);
	log_line(line);
}

static void replay(const char *path, long from, long to)
{
	FILE *in = fopen(path, "re");
	struct op op = {0};
	char line[80];
	long at = 0;

	if (!in) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), in)) {
		at += (long)strlen(line);
		if (at > to)
			break;
		if (line[0] == '+') {
			if (at <= from)
				model_done(&op);
			continue;
		}
		if (sscanf(line, "%c %u %u %u %u", &op.kind, &op.name, &op.a, &op.b,
			   &op.version) != 5)
			break; /* the last line, cut off */
		model_begin(&op);
	}
	(void)fclose(in);
}

/* ---- at work ---- */

static int dir_fd;
static uint64_t rng;

static unsigned any_of(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)((rng >> 16) % n);
}

static void name_of(unsigned name, char buf[static 8])
{
	(void)snprintf(buf, 8, "n%u", name);
}

static void fill_cells(uint32_t *buf, uint32_t id, unsigned cell, unsigned n,
		       uint32_t version)
{
	for (unsigned c = 0; c < n; c++)
		for (unsigned i = 0; i < CELL / 16; i++) {
			*buf++ = 0x4c656467;
			*buf++ = id;
			*buf++ = cell + c;
			*buf++ = version;
		}
}

static int write_cells(int fd, uint32_t id, const struct op *op)
{
	static uint32_t buf[CELLS * CELL / 4];
	ssize_t len = (ssize_t)op->b * CELL;

	fill_cells(buf, id, op->a, op->b, op->version);
	if (pwrite(fd, buf, (size_t)len, (off_t)op->a * CELL) != len)
		return -1;
	return 0;
}

static int do_bytes(const struct op *op, const char *name)
{
	int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC), rc = -1, saved;

	if (fd < 0)
		return -1;
	switch (op->kind) {
	case 'W':
		rc = write_cells(fd, set_now(&names[op->name]), op);
		break;
	case 'T':
		rc = ftruncate(fd, (off_t)op->a * CELL);
		break;
	case 'P':
		rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)op->a * CELL, (off_t)op->b * CELL);
		break;
	default:
		rc = fsync(fd);
	}
	saved = errno;
	(void)close(fd);
	errno = saved;
	return rc;
}

static int do_op(const struct op *op)
{
	char name[8], to[8];
	int fd;

	name_of(op->name, name);
	name_of(op->a, to);
	switch (op->kind) {
	case 'C':
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		return fd < 0 ? -1 : close(fd);
	case 'R':
		return renameat(dir_fd, name, dir_fd, to);
	case 'U':
		return unlinkat(dir_fd, name, 0);
	case 'D':
		return fsync(dir_fd);
	default:
		return do_bytes(op, name);
	}
}

/* An operation that makes sense now. */
static struct op choose(uint32_t *next_file, uint32_t *next_version)
{
	struct op op = {.name = any_of(NAMES)};
	unsigned dice = any_of(100);

	if (dice < 6) {
		op.kind = 'D';
		return op;
	}
	if (!set_now(&names[op.name])) {
		op.kind = 'C';
		op.version = (*next_file)++;
		return op;
	}
	op.a = any_of(CELLS);
	op.b = 1 + any_of(any_of(4) ? 12 : 64);
	if (op.b > CELLS - op.a)
		op.b = CELLS - op.a;
	if (dice < 55) {
		op.kind = 'W';
		op.version = (*next_version)++;
	} else if (dice < 80) {
		op.kind = 'S';
	} else if (dice < 86) {
		op.kind = 'T';
	} else if (dice < 90) {
		op.kind = 'P';
	} else if (dice < 97) {
		op.kind = 'R';
		op.a = any_of(NAMES);
		if (op.a == op.name)
			op.kind = 'S';
	} else {
		op.kind = 'U';
	}
	return op;
}

/* Did the file system go away under us, as it is meant to? */
static bool is_gone(int err)
{
	return err == ENOTCONN || err == ECONNABORTED || err == EIO || err == ENODEV ||
	       err == ESTALE || err == EROFS || err == ENOENT;
}

static int run(unsigned long seed, unsigned long ops)
{
	uint32_t next_file = 1, next_version = 1;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (unsigned long i = 0; i < ops; i++) {
		struct op op = choose(&next_file, &next_version);

		if (next_file >= FILES)
			break;
		log_begin(&op);
		if (do_op(&op) < 0) {
			int err = errno;

			fprintf(stderr, "ledger: %c of n%u: %s\n", op.kind, op.name,
				strerror(err));
			return is_gone(err) ? 3 : 1;
		}
		log_line("+\n");
		model_begin(&op);
		model_done(&op);
	}
	return 0;
}

/* Makes the directory, for good. */
static int make_dir(const char *path)
{
	int up, rc;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -1;
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	up = dir_fd < 0 ? -1 : openat(dir_fd, "..", O_RDONLY | O_CLOEXEC);
	rc = up < 0 ? -1 : fsync(up);
	if (up >= 0)
		(void)close(up);
	return rc;
}

/* ---- the check ---- */

static void bad(const char *name, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void bad(const char *name, const char *fmt, ...)
{
	va_list ap;

	failures++;
	fprintf(stderr, "%s/%s ", dir_path, name);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* The version that a cell holds; false if it is nothing that was ever written. */
static bool read_version(const uint32_t *cell, unsigned no, uint32_t *id,
			 uint32_t *ret_version)
{
	static const uint32_t zeros[CELL / 4];

	*ret_version = 0;
	if (memcmp(cell, zeros, CELL) == 0)
		return true;
	for (unsigned i = 4; i < CELL / 4; i++)
		if (cell[i] != cell[i - 4])
			return false;
	if (cell[0] != 0x4c656467 || cell[2] != no || (*id && cell[1] != *id))
		return false;
	*id = cell[1];
	*ret_version = cell[3];
	return true;
}

static void check_cells(const char *name, const struct file *f, uint32_t id,
			const uint32_t *buf, unsigned size)
{
	for (unsigned c = 0; c < size && c < CELLS; c++) {
		uint32_t version;

		if (!read_version(buf + c * CELL / 4, c, &id, &version))
			bad(name, "cell %u holds what nobody wrote (file %u)", c, id);
		else if (!set_has(&f->cells[c], version))
			bad(name, "cell %u has version %u, which it cannot have", c,
			    version);
	}
}

/* Which file is it?  The first cell that is not a hole tells; 0: none does. */
static uint32_t whose(const uint32_t *buf, unsigned size)
{
	for (unsigned c = 0; c < size; c++)
		if (buf[c * CELL / 4] == 0x4c656467)
			return buf[c * CELL / 4 + 1];
	return 0;
}

/* May the file consist of that many cells, all of them holes? */
static bool may_be_holes(const struct file *f, unsigned size)
{
	for (unsigned c = 0; c < size && c < CELLS; c++)
		if (!set_has(&f->cells[c], 0))
			return false;
	return size >= f->lo && size <= f->hi;
}

/* A file of holes does not say which one it is: one of those that the name may mean. */
static void check_holes(const char *name, const struct set *s, unsigned size,
			bool *seen)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->v[i] && may_be_holes(file_at(s->v[i]), size)) {
			seen[s->v[i]] = true;
			return;
		}
	if (!s->any)
		bad(name, "has %u cells, all of them holes", size);
}

static void check_file(const char *name, const struct set *s, bool *seen)
{
	static uint32_t buf[(CELLS + 1) * CELL / 4];
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, buf, sizeof(buf), 0);
	unsigned size = (unsigned)(n < 0 ? 0 : n) / CELL;
	uint32_t id;

	if (n < 0 || n % CELL) {
		bad(name, "cannot be read (%s), or has an odd size, %zd",
		    strerror(errno), n);
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	(void)close(fd);
	id = whose(buf, size);
	if (id >= FILES || (id && !files[id])) {
		bad(name, "is file %u, which there never was", id);
		return;
	}
	if (!id) {
		check_holes(name, s, size, seen);
		return;
	}
	seen[id] = true;
	if (!set_has(s, id))
		bad(name, "is file %u, which it cannot be (now %u)", id, set_now(s));
	if (size < file_at(id)->lo || size > file_at(id)->hi)
		bad(name, "has %u cells, at least %u were promised", size,
		    file_at(id)->lo);
	check_cells(name, file_at(id), id, buf, size);
}

static void check_names(void)
{
	static bool seen[FILES];

	for (unsigned i = 0; i < NAMES; i++) {
		char name[8];
		struct stat st;

		name_of(i, name);
		if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			check_file(name, &names[i], seen);
		else if (errno != ENOENT)
			bad(name, "cannot be looked at: %s", strerror(errno));
		else if (!set_has(&names[i], 0))
			bad(name, "is gone, and should be file %u", set_now(&names[i]));
	}
	/* whatever its name is, what was promised of a living file must be somewhere */
	for (unsigned i = 0; i < NAMES; i++) {
		uint32_t id = set_now(&names[i]);
		char name[8];

		name_of(i, name);
		if (id && names[i].n == 1 && !names[i].any && files[id]->synced &&
		    !files[id]->removed && files[id]->lo > 0 && !seen[id])
			bad(name, "file %u is nowhere, with %u cells promised", id,
			    files[id]->lo);
	}
}

static int check(void)
{
	struct stat st;

	dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		for (unsigned i = 0; i < NAMES; i++)
			if (!set_has(&names[i], 0))
				bad("", "is gone, with file %u in it",
				    set_now(&names[i]));
		return failures > 0;
	}
	if (fstat(dir_fd, &st) == 0)
		check_names();
	return failures > 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "run")) {
		log_fd = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
		if (log_fd < 0 || make_dir(argv[2]) < 0)
			return perror("ledger"), 3;
		return run(strtoul(argv[4], NULL, 10), strtoul(argv[5], NULL, 10));
	}
	if ((argc == 4 || argc == 6) && !strcmp(argv[1], "check")) {
		dir_path = argv[2];
		replay(argv[3], argc == 6 ? atol(argv[4]) : INT32_MAX,
		       argc == 6 ? atol(argv[5]) : INT32_MAX);
		return check();
	}
	fprintf(stderr,
		"usage: ledger run DIR LOG SEED OPS | check DIR LOG [FROM TO]\n");
	return 2;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgbranchfs receive: makes a branch of a stream on standard input.
 *
 * It is built in a directory of the store that nothing names.  When all of the stream
 * was read, and all of its sums are right, the store takes it over: the daemon if it is
 * mounted, else this process.
 */
#include "cli/ask.h"
#include "cli/cli.h"

#include "base/fd.h"
#include "base/text.h"
#include "cli/listing.h"
#include "cli/mounts.h"
#include "cli/zpipe.h"
#include "store/incoming.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct receive {
	const char *store;
	char *path; /* absolute; owned */
	char *name; /* of the branch; owned */
	char *header;
	const char *base; /* what a difference is one to: NAME[@C]; NULL: as it says */
	char *copy;       /* the path of a branch that is made of that; NULL: none */
	int storefd, basefd;
	struct zin *in;
	struct incoming *incoming;
	time_t shown;
	struct err *e;
	uint8_t buf[STREAM_PAYLOAD_MAX + 1];
};

static void receive_fini(struct receive *r)
{
	zin_free(r->in);
	incoming_free(r->incoming);
	clean_fd(&r->basefd);
	if (r->copy && rmdir(r->copy) < 0)
		(void)fprintf(stderr, "pgbranchfs: cannot remove '%s': %s\n", r->copy,
			      strerrordesc_np(errno));
	free(r->copy);
	clean_fd(&r->storefd);
	free(r->path);
	free(r->name);
	free(r->header);
}

static int open_store(struct receive *r)
{
	struct stat st;
	int rc;

	r->path = realpath(r->store, NULL);
	if (r->path)
		r->storefd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->storefd < 0)
		return err_set(r->e, -errno, "cannot open store %s: %s", r->store,
			       strerrordesc_np(errno));
	if (fstatat(r->storefd, "format", &st, 0) < 0) {
		rc = err_set(r->e, -EINVAL, "%s is not a store", r->path);
		(void)err_hint(r->e, "make one with: pgbranchfs init %s", r->path);
		return rc;
	}
	return incoming_new(r->storefd, &r->incoming, r->e);
}

static int bad_stream(struct receive *r, int rc)
{
	if (rc == -ENODATA)
		(void)err_set(r->e, rc, "the stream ends too early");
	else if (rc == -EBADMSG)
		(void)err_set(r->e, rc, "the stream is damaged");
	else
		(void)err_set(r->e, rc, "cannot read the stream: %s",
			      strerrordesc_np(-rc));
	(void)err_hint(r->e, "nothing of it was taken over; send it again");
	return rc;
}

/* The value of a key of the header; owned. */
static char *header_value(const struct receive *r, const char *key)
{
	CLEAN(clean_free) char *copy = strdup(r->header);
	char *cursor = copy, *line;
	size_t n = strlen(key);

	while (copy && (line = text_next_line(&cursor)) != NULL)
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return strdup(line + n + 1);
	return NULL;
}

/* Where the store is mounted; -EBUSY: it is not, here. */
static int find_mount(struct receive *r, struct mount_entry *m)
{
	CLEAN(mounts_fini) struct mount_list list = MOUNT_LIST_INIT;
	int rc = mounts_load(&list, r->e);

	for (size_t i = 0; rc == 0 && i < list.n; i++) {
		if (strcmp(list.entries[i].store, r->path) != 0)
			continue;
		m->mountpoint = strdup(list.entries[i].mountpoint);
		m->store = strdup(list.entries[i].store);
		return m->mountpoint && m->store ? 0 : -ENOMEM;
	}
	if (rc < 0)
		return rc;
	(void)err_set(r->e, -EBUSY, "store %s is not mounted here", r->path);
	return err_hint(r->e, "mount it, or receive where it is mounted");
}

/* A branch of what a difference is one to, so that it stays as it is. */
static int make_base(struct receive *r, const char *what)
{
	CLEAN(mount_entry_fini) struct mount_entry m = {NULL, NULL, 0};
	CLEAN(clean_free) char *copy = NULL, *spec = NULL;
	int rc = find_mount(r, &m);

	if (rc < 0)
		return rc;
	copy = text_format("%s/receive-%d", m.mountpoint, (int)getpid());
	spec = copy ? text_format("%s@%s", copy, what) : NULL;
	if (!spec)
		return err_set(r->e, -ENOMEM, "out of memory");
	if (strchr(what, '@'))
		spec[strlen(copy) + 1 + strcspn(what, "@")] = ':';
	if (mkdir(spec, 0700) < 0) {
		rc = -errno;
		(void)err_set(r->e, rc,
			      "the stream is a difference to '%s', of which no branch "
			      "can be made here: %s",
			      what, strerrordesc_np(-rc));
		return err_hint(r->e, "name what it is a difference to with --base, or "
				      "send all of it, without --since");
	}
	r->copy = steal(copy);
	return 0;
}

/* Is the stream a difference?  Then what it is one to is needed. */
static int take_since(struct receive *r)
{
	CLEAN(clean_free) char *branch = header_value(r, "branch"), *what = NULL;
	CLEAN(clean_free) char *since = header_value(r, "since"), *data = NULL;
	int rc;

	if (!since || strcmp(since, "-") == 0)
		return 0;
	if (!branch || text_check_name(branch) < 0 || text_check_name(since) < 0)
		return bad_stream(r, -EBADMSG);
	what = r->base ? strdup(r->base) : text_format("%s@%s", branch, since);
	rc = what ? make_base(r, what) : err_set(r->e, -ENOMEM, "out of memory");
	if (rc < 0)
		return rc;
	data = text_format("%s/data", r->copy);
	r->basefd = data ? open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (r->basefd < 0)
		return err_set(r->e, -EIO, "cannot open the data of '%s'", what);
	incoming_set_base(r->incoming, r->basefd);
	return 0;
}

static int take_header(struct receive *r, const struct stream_record *rec)
{
	if (r->header || rec->len == 0)
		return -EBADMSG;
	r->header = strndup((const char *)rec->bytes, rec->len);
	if (!r->header)
		return -ENOMEM;
	if (!r->name)
		r->name = header_value(r, "branch");
	return r->name && text_check_name(r->name) == 0 ? 0 : -EBADMSG;
}

static int check_end(struct receive *r, const struct stream_record *rec, uint32_t sum)
{
	uint64_t records, bytes;

	incoming_count(r->incoming, &records, &bytes);
	if (rec->records != records || rec->total_bytes != bytes || rec->sum != sum)
		return -EBADMSG;
	return zin_end(r->in);
}

static void show_progress(struct receive *r)
{
	time_t now = time(NULL);
	uint64_t records, bytes;
	char size[8];

	if (now == r->shown || !isatty(STDERR_FILENO))
		return;
	r->shown = now;
	incoming_count(r->incoming, &records, &bytes);
	listing_size(bytes, size);
	(void)fprintf(stderr, "\r%s received   ", size);
}

/* 1: that was the last one. */
static int next_record(struct receive *r)
{
	uint32_t sum = zin_sum(r->in), len;
	struct stream_record rec;
	enum stream_type type;
	int rc = zin_read(r->in, r->buf, STREAM_RECORD);

	if (rc == 0)
		rc = stream_record_decode(r->buf, &type, &len);
	if (rc == 0)
		rc = zin_read(r->in, r->buf, len);
	if (rc == 0)
		rc = stream_decode(type, r->buf, len, &rec);
	if (rc == 0 && type == STREAM_HEADER) {
		rc = take_header(r, &rec);
		return rc < 0 ? bad_stream(r, rc) : take_since(r);
	}
	if (rc == 0 && !r->header)
		rc = -EBADMSG;
	else if (rc == 0 && type == STREAM_END)
		rc = check_end(r, &rec, sum);
	else if (rc == 0)
		return incoming_record(r->incoming, &rec, r->e);
	show_progress(r);
	return rc < 0 ? bad_stream(r, rc) : type == STREAM_END;
}

static int read_stream(struct receive *r)
{
	uint8_t head[STREAM_HEAD];
	int rc = zin_new(STDIN_FILENO, &r->in);

	if (rc == 0)
		rc = zin_read(r->in, head, sizeof(head));
	if (rc == 0)
		rc = stream_head_decode(head);
	if (rc < 0) {
		(void)err_set(r->e, rc, "what is read is no stream of pgbranchfs send");
		return err_hint(r->e,
				"pgbranchfs send NAME | pgbranchfs receive STORE");
	}
	while (rc == 0)
		rc = next_record(r);
	if (r->shown)
		(void)fputc('\n', stderr);
	return rc < 0 ? rc : incoming_finish(r->incoming, r->e);
}

static int adopt_by_daemon(struct receive *r)
{
	CLEAN(ask_fini) struct ask a = ASK_INIT;
	CLEAN(clean_free)
	char *question = text_format("adopt %s %s", incoming_dir(r->incoming), r->name);
	int rc = question ? find_mount(r, &a.mount) : -ENOMEM;

	return rc < 0 ? rc : ask_daemon(&a, question, r->e);
}

static int adopt(struct receive *r)
{
	const struct branch_spec spec = {
		.name = r->name, .owner = geteuid(), .group = getegid(), .mode = 0700};
	CLEAN(err_fini) struct err busy = ERR_INIT;
	struct branch *b = NULL;
	struct registry *reg;
	int rc = registry_open(r->path, &reg, &busy);

	if (rc == -EBUSY)
		return adopt_by_daemon(r);
	if (rc < 0)
		return err_set(r->e, rc, "%s", err_text(&busy));
	rc = registry_adopt(reg, incoming_dir(r->incoming), &spec, &b, r->e);
	branch_put(b);
	registry_close(reg);
	return rc;
}

static void say_what(const struct receive *r)
{
	CLEAN(clean_free) char *version = header_value(r, "postgres_version");
	CLEAN(clean_free) char *system = header_value(r, "system_identifier");
	uint64_t records, bytes;
	char size[8];

	incoming_count(r->incoming, &records, &bytes);
	listing_size(bytes, size);
	printf("received branch %s: Postgres %s, system identifier %s, %s\n", r->name,
	       version ? version : "-", system ? system : "-", size);
}

static int receive(struct receive *r)
{
	int rc = open_store(r);

	(void)umask(0); /* modes are those of the stream */
	if (rc == 0)
		rc = read_stream(r);
	if (rc == 0)
		rc = adopt(r);
	if (rc == 0)
		say_what(r);
	return rc;
}

static int run_receive(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
						{"name", required_argument, NULL, 'n'},
						{"base", required_argument, NULL, 'b'},
						{NULL, 0, NULL, 0}};
	static struct receive r = {.storefd = -1,
				   .basefd = -1}; /* its buffer is large */
	CLEAN(err_fini) struct err e = ERR_INIT;
	int opt, rc;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return cli_help(self);
		if (opt == 'b') {
			r.base = optarg;
			continue;
		}
		if (opt != 'n')
			return cli_usage(self, NULL);
		if (text_check_name(optarg) < 0)
			return cli_usage(self, "'%s' is no name for a branch", optarg);
		free(r.name);
		r.name = strdup(optarg);
	}
	if (argc - optind != 1)
		return cli_usage(self, "receive takes a store");
	if (isatty(STDIN_FILENO)) {
		(void)err_set(&e, -EINVAL, "a stream does not come from a terminal");
		(void)err_hint(&e, "pgbranchfs send NAME | pgbranchfs receive STORE");
		return cli_fail(&e);
	}
	r.store = argv[optind];
	r.e = &e;
	rc = receive(&r);
	receive_fini(&r);
	return rc < 0 ? cli_fail(&e) : cli_flush();
}

const struct cli_command cmd_receive = {
	.name = "receive",
	.args = "[--name NAME] [--base NAME[@CHECKPOINT]] STORE",
	.summary = "Make a branch of a stream on standard input",
	.help = "  --name NAME  call the branch so, not as it was called\n"
		"  --base NAME[@CHECKPOINT]  what a difference is one to, if that is "
		"called\n               otherwise here\n",
	.run = run_receive,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bank - moves money between accounts, and notes outside of the database which
 * transfers were acknowledged.
 *
 *   bank init CONNINFO ACCOUNTS
 *   bank run CONNINFO CLIENTS SECONDS DIR [SETTINGS]   DIR/ack.I: numbers of client I's
 *   bank mark DIR                                      how many there are, by client
 *   bank check CONNINFO DIR [MARK]                     MARK: a file with what mark said
 *
 * run goes on after errors and lost connections until its time is over or SIGTERM, and
 * prints transfers, failures, the longest that one transfer took, the longest time
 * without any, in ms, and how many transfers took over 100 ms.  check wants: no money
 * made or lost, every balance as the transfers in the database say, and every
 * acknowledged one among them.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define START_BALANCE 1000
#define PAUSE_US 100000

struct client {
	pthread_t thread;
	unsigned no, accounts;
	int ack_fd;
	uint64_t seq; /* of the next transfer */
	unsigned seed;
	uint64_t done, failed, pauses;
	int64_t longest_us;
};

static const char *conninfo, *settings = "";
static int64_t end_us;
static atomic_bool ended;
static atomic_llong last_ack_us, longest_gap_us;

static int64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static bool is_over(void)
{
	return atomic_load(&ended) || now_us() >= end_us;
}

static void on_term(int sig)
{
	(void)sig;
	atomic_store(&ended, true);
}

/* One value of a query's one row; false when it failed. */
static bool ask(PGconn *conn, const char *sql, char *buf, size_t size)
{
	PGresult *res = PQexec(conn, sql);
	bool ok = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1;

	if (ok)
		(void)snprintf(buf, size, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return ok;
}

static bool command(PGconn *conn, const char *sql)
{
	PGresult *res = PQexec(conn, sql);
	bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;

	PQclear(res);
	return ok;
}

static PGconn *connect_or_null(void)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	PQfinish(conn);
	return NULL;
}

static int init(unsigned accounts)
{
	PGconn *conn = connect_or_null();
	char sql[256];
	bool ok;

	(void)snprintf(
		sql, sizeof(sql),
		"insert into accounts select g, %d from generate_series(1, %u) g",
		START_BALANCE, accounts);
	ok = conn &&
	     command(conn, "create table accounts (id int primary key, "
			   "balance bigint not null)") &&
	     command(conn, "create table transfers (client int, seq bigint, a int, "
			   "b int, amount int, filler text, "
			   "primary key (client, seq))") &&
	     command(conn, sql);
	if (!ok)
		fprintf(stderr, "bank: %s",
			conn ? PQerrorMessage(conn) : "no server\n");
	PQfinish(conn);
	return !ok;
}

/* Where this client goes on: what a lost answer left behind counts as used. */
static bool begin(struct client *c, PGconn *conn)
{
	char buf[32], sql[128];

	(void)snprintf(sql, sizeof(sql),
		       "select coalesce(max(seq), 0) from transfers where client = %u",
		       c->no);
	if ((*settings && !command(conn, settings)) ||
	    !ask(conn, sql, buf, sizeof(buf)))
		return false;
	if (strtoull(buf, NULL, 10) >= c->seq)
		c->seq = strtoull(buf, NULL, 10) + 1;
	if (!ask(conn, "select count(*) from accounts", buf, sizeof(buf)))
		return false;
	c->accounts = (unsigned)strtoul(buf, NULL, 10);
	return c->accounts > 1;
}

static void acknowledged(struct client *c, int64_t began_us)
{
	int64_t now = now_us(), before = atomic_exchange(&last_ack_us, now);

	if (write(c->ack_fd, &c->seq, sizeof(c->seq)) != sizeof(c->seq))
		abort(); /* the notes must be right */
	c->done++;
	if (now - began_us > c->longest_us)
		c->longest_us = now - began_us;
	c->pauses += now - began_us > PAUSE_US;
	if (now - before > atomic_load(&longest_gap_us))
		atomic_store(&longest_gap_us, now - before);
}

static bool transfer(struct client *c, PGconn *conn)
{
	unsigned a = 1 + (unsigned)rand_r(&c->seed) % c->accounts;
	unsigned b = 1 + (unsigned)rand_r(&c->seed) % c->accounts;
	int amount = rand_r(&c->seed) % 100;
	char sql[640];

	if (a == b)
		b = a % c->accounts + 1;
	if (a > b) { /* in this order nobody waits in a circle */
		unsigned t = a;

		a = b;
		b = t;
	}
	(void)snprintf(sql, sizeof(sql),
		       "begin; "
		       "update accounts set balance = balance - %d where id = %u; "
		       "update accounts set balance = balance + %d where id = %u; "
		       "insert into transfers values (%u, %llu, %u, %u, %d, "
		       "repeat('x', %d)); commit",
		       amount, a, amount, b, c->no, (unsigned long long)c->seq, a, b,
		       amount, rand_r(&c->seed) % 200);
	return command(conn, sql);
}

static void pause_a_little(void)
{
	const struct timespec t = {0, 20 * 1000 * 1000};

	(void)nanosleep(&t, NULL); /* between attempts to connect */
}

static void *work(void *arg)
{
	struct client *c = arg;
	PGconn *conn = NULL;

	while (!is_over()) {
		int64_t began = now_us();

		if (!conn) {
			conn = connect_or_null();
			if (!conn || !begin(c, conn)) {
				PQfinish(conn);
				conn = NULL;
				pause_a_little();
				continue;
			}
			began = now_us();
		}
		if (transfer(c, conn)) {
			acknowledged(c, began);
		} else {
			c->failed++;
			(void)command(conn, "rollback");
			if (PQstatus(conn) != CONNECTION_OK) {
				PQfinish(conn);
				conn = NULL;
			}
		}
		c->seq++;
	}
	PQfinish(conn);
	return NULL;
}

static int open_acks(const char *dir, unsigned no, int flags)
{
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/ack.%u", dir, no);
	return open(path, flags | O_CLOEXEC, 0666);
}

static int run(unsigned clients, unsigned seconds, const char *dir)
{
	static struct client c[CLIENTS_MAX];
	uint64_t done = 0, failed = 0, pauses = 0;
	int64_t longest = 0;

	end_us = now_us() + (int64_t)seconds * 1000000;
	atomic_store(&last_ack_us, now_us());
	for (unsigned i = 0; i < clients; i++) {
		c[i].no = i;
		c[i].seq = 1;
		c[i].seed = (unsigned)now_us() + i;
		c[i].ack_fd = open_acks(dir, i, O_WRONLY | O_CREAT | O_APPEND);
		if (c[i].ack_fd < 0 || pthread_create(&c[i].thread, NULL, work, &c[i]))
			return perror("bank"), 1;
	}
	for (unsigned i = 0; i < clients; i++) {
		(void)pthread_join(c[i].thread, NULL);
		done += c[i].done;
		failed += c[i].failed;
		pauses += c[i].pauses;
		if (c[i].longest_us > longest)
			longest = c[i].longest_us;
	}
	printf("%llu transfers, %llu failed, longest %lld ms, longest gap %lld ms, "
	       "%llu over 100 ms\n",
	       (unsigned long long)done, (unsigned long long)failed,
	       (long long)longest / 1000,
	       (long long)atomic_load(&longest_gap_us) / 1000,
	       (unsigned long long)pauses);
	return 0;
}

static uint64_t count_acks(const char *dir, unsigned no)
{
	int fd = open_acks(dir, no, O_RDONLY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	(void)close(fd);
	return (uint64_t)st.st_size / sizeof(uint64_t);
}

static int mark(const char *dir)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		printf("%llu\n", (unsigned long long)count_acks(dir, i));
	return 0;
}

/* How many acknowledged transfers of a client are not in the database. */
static uint64_t count_lost(PGconn *conn, const char *dir, unsigned no, uint64_t n)
{
	int fd = open_acks(dir, no, O_RDONLY);
	uint64_t *acks = calloc(n + 1, sizeof(*acks)), lost = 0;
	PGresult *res;
	char sql[128];
	int row = 0;

	if (fd < 0 || !acks || read(fd, acks, n * 8) != (ssize_t)(n * 8)) {
		perror("bank: cannot read the notes");
		exit(2);
	}
	(void)close(fd);
	(void)snprintf(sql, sizeof(sql),
		       "select seq from transfers where client = %u order by seq", no);
	res = PQexec(conn, sql);
	for (uint64_t i = 0; i < n; i++) {
		while (row < PQntuples(res) &&
		       strtoull(PQgetvalue(res, row, 0), NULL, 10) < acks[i])
			row++;
		if (row >= PQntuples(res) ||
		    strtoull(PQgetvalue(res, row, 0), NULL, 10) != acks[i])
			lost++;
	}
	PQclear(res);
	free(acks);
	return lost;
}

static int check(const char *dir, const char *mark_path)
{
	static const char wrong_sql[] =
		"select count(*) from accounts a left join (select id, sum(d) as d "
		"from "
		"(select a as id, -amount as d from transfers union all "
		"select b, amount from transfers) x group by id) s using (id) "
		"where a.balance <> 1000 + coalesce(s.d, 0)";
	FILE *in = mark_path ? fopen(mark_path, "re") : NULL;
	PGconn *conn = PQconnectdb(conninfo);
	uint64_t total = 0, lost = 0;
	char sum[64], wrong[32];
	bool ok;

	if (PQstatus(conn) != CONNECTION_OK || (mark_path && !in)) {
		fprintf(stderr, "bank: %s", PQerrorMessage(conn));
		return 2;
	}
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		unsigned long long n = count_acks(dir, i);

		if (in && fscanf(in, "%llu", &n) != 1)
			return 2;
		if (n == 0)
			continue;
		total += n;
		lost += count_lost(conn, dir, i, n);
	}
	ok = ask(conn, "select coalesce(sum(balance - 1000), 0) from accounts", sum,
		 sizeof(sum)) &&
	     ask(conn, wrong_sql, wrong, sizeof(wrong));
	if (!ok)
		fprintf(stderr, "bank: %s", PQerrorMessage(conn));
	else
		printf("%llu acknowledged, %llu lost, %s made, %s wrong balances\n",
		       (unsigned long long)total, (unsigned long long)lost, sum, wrong);
	PQfinish(conn);
	return !ok || lost || strcmp(sum, "0") || strcmp(wrong, "0");
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_term};

	(void)sigaction(SIGTERM, &sa, NULL);
	conninfo = argc > 2 ? argv[2] : "";
	if (argc == 4 && !strcmp(argv[1], "init"))
		return init((unsigned)strtoul(argv[3], NULL, 10));
	if (argc >= 6 && !strcmp(argv[1], "run")) {
		settings = argc > 6 ? argv[6] : "";
		return run((unsigned)strtoul(argv[3], NULL, 10) % (CLIENTS_MAX + 1),
			   (unsigned)strtoul(argv[4], NULL, 10), argv[5]);
	}
	if (argc == 3 && !strcmp(argv[1], "mark"))
		return mark(argv[2]);
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "check"))
		return check(argv[3], argc == 5 ? argv[4] : NULL);
	fprintf(stderr, "usage: bank init|run|mark|check, see the source\n");
	return 2;
}

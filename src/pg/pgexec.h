/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pgexec.h - the command line and environment of a branch's server, and the few
 * texts that tell about it: PG_VERSION, postmaster.pid, the end of its log.
 *
 * Pure functions: no I/O, no state.  Lists are heap arrays ended by NULL.
 */
#ifndef PG_PGEXEC_H
#define PG_PGEXEC_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PGEXEC_SOCKET ".s.PGSQL.5432"

struct pgexec_spec {
	const char *bin_dir;
	int major;
	const char *mountpoint;      /* absolute */
	uint32_t no;                 /* the branch's number */
	const char *config_file;     /* NULL: the data directory's own */
	const char *const *settings; /* "name=value", ended by NULL; may be NULL */
	uint64_t wal_segment_bytes;
	bool first_start; /* in this mount: all that it has is durable */
	bool unprepared;  /* subscriptions of the parent may still be enabled */
	bool pid_file;    /* its configuration may ask for an external pid file */
	const char *store_path;
};

/* *ret_argv for proc_spawn; free it with pgexec_free_list. */
int pgexec_argv(const struct pgexec_spec *s, char ***ret_argv) MUST_CHECK;
int pgexec_envp(const struct pgexec_spec *s, char ***ret_envp) MUST_CHECK;
/* CLEAN(pgexec_free_list) char **list: frees the strings and the array. */
void pgexec_free_list(char ***list);

struct pgexec_pidfile {
	pid_t pid;
	uint32_t shm_key; /* of the System V segment that every process of the server
			     keeps attached; 0: not written yet */
	int shm_id;
	bool ready;   /* accepts connections */
	bool standby; /* accepts connections, but is in recovery */
};

/* Parses postmaster.pid; -EINVAL if not even the pid is there (yet). */
int pgexec_parse_pidfile(const char *text, struct pgexec_pidfile *ret_pf) MUST_CHECK;
/* Did a server that was called as pgexec_argv says write this postmaster.pid? */
bool pgexec_pidfile_is_ours(const char *text, uint32_t no);
/* Major version from the text of PG_VERSION ("15\n"), or -EINVAL. */
int pgexec_parse_version(const char *text) MUST_CHECK;
/* Major version from "postgres (PostgreSQL) 15.20 (Debian ...)", or -EINVAL. */
int pgexec_parse_banner(const char *text) MUST_CHECK;
/*
 * Why a server ended, from its log: the message of the last FATAL or PANIC line, or
 * else the last line.  Heap string; NULL if there is none or no memory.
 */
char *pgexec_log_reason(const char *log);

#endif

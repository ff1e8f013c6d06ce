/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/self.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static int read_memory(struct self_usage *u)
{
	CLEAN(clean_free) char *text = NULL;
	unsigned long long virtual_pages, resident_pages;
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	int rc = fd_read_file(AT_FDCWD, "/proc/self/statm", 256, &text, NULL);

	if (rc < 0)
		return rc;
	if (sscanf(text, "%llu %llu", &virtual_pages, &resident_pages) != 2)
		return -EBADMSG;
	u->virtual_bytes = virtual_pages * page_bytes;
	u->resident_bytes = resident_pages * page_bytes;
	return 0;
}

static int count_fds(struct self_usage *u)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *ent;
	uint64_t n = 0;

	if (!d)
		return -errno;
	while ((ent = readdir(d)))
		n += ent->d_name[0] != '.';
	(void)closedir(d);
	u->open_fds = n - 1; /* without the directory's own */
	return 0;
}

static uint64_t ns_of(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000000 + (uint64_t)tv->tv_usec * 1000;
}

int self_usage(struct self_usage *ret_usage)
{
	struct self_usage u;
	struct rusage spent;
	struct rlimit lim;
	int rc = read_memory(&u);

	if (rc == 0)
		rc = count_fds(&u);
	if (rc == 0 &&
	    (getrusage(RUSAGE_SELF, &spent) < 0 || getrlimit(RLIMIT_NOFILE, &lim) < 0))
		rc = -errno;
	if (rc < 0)
		return rc;
	u.cpu_ns = ns_of(&spent.ru_utime) + ns_of(&spent.ru_stime);
	u.max_fds = lim.rlim_cur == RLIM_INFINITY ? UINT64_MAX : lim.rlim_cur;
	*ret_usage = u;
	return 0;
}

void self_io_idle(bool on)
{
	int class = on ? IOPRIO_CLASS_IDLE : IOPRIO_CLASS_NONE;

	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
		      IOPRIO_PRIO_VALUE(class, 0)); /* a wish */
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay.c - runs a fuzz target without a fuzzer: on each file that is named, on all
 * files of a directory, or on what comes on stdin.
 */
#include "base/fd.h"
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define INPUT_MAX (1 << 20)

static unsigned ran;

static int run_file(int dirfd, const char *name)
{
	CLEAN(clean_free) char *buf = NULL;
	uint8_t *exact;
	size_t len;
	int rc = fd_read_file(dirfd, name, INPUT_MAX, &buf, &len);

	if (rc < 0) {
		(void)fprintf(stderr, "%s: %s\n", name, strerror(-rc));
		return rc;
	}
	/* without the NUL that the buffer has behind it */
	exact = malloc(len ? len : 1);
	MUST(exact);
	memcpy(exact, buf, len);
	(void)LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	ran++;
	return 0;
}

static int run_dir(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *ent;
	int rc = 0;

	if (!d) {
		perror(path);
		return -errno;
	}
	while (rc == 0 && (ent = readdir(d)) != NULL) {
		if (ent->d_name[0] == '.')
			continue;
		/* the one that a crash is due to is the last one named */
		(void)fprintf(stderr, "%s/%s\n", path, ent->d_name);
		rc = run_file(dirfd(d), ent->d_name);
	}
	(void)closedir(d);
	return rc;
}

int main(int argc, char **argv)
{
	struct stat st;
	int rc = 0;

	if (argc == 1)
		rc = run_file(AT_FDCWD, "/dev/stdin");
	for (int i = 1; rc == 0 && i < argc; i++) {
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			rc = run_dir(argv[i]);
		else
			rc = run_file(AT_FDCWD, argv[i]);
	}
	(void)printf("%u inputs\n", ran);
	return rc < 0;
}

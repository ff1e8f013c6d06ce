/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "cli/listing.h"
#include "cli/mounts.h"

static void test_parse(void **state)
{
	char text[] = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
		      "30 24 0:40 / /srv/p\\040g rw,nosuid shared:5 master:2 - "
		      "fuse.pgbranchfs "
		      "/var/lib/a\\134b rw,user_id=0\n"
		      "31 24 0:41 / /mnt rw - fuse.sshfs host:/x rw\n"
		      "32 24 0:42 / /srv/b rw - fuse.pgbranchfs /b rw\n"
		      "33 24 0:43 / /srv/b rw - fuse.pgbranchfs /b2 rw\n"
		      "nonsense\n"
		      "34 -\n";
	struct mount_list list = MOUNT_LIST_INIT;

	(void)state;
	assert_int_equal(mounts_parse(text, &list), 0);
	assert_int_equal(list.n, 3);
	assert_string_equal(list.entries[0].mountpoint, "/srv/p g");
	assert_string_equal(list.entries[0].store, "/var/lib/a\\b");
	/* of two at one place the upper one counts */
	assert_string_equal(mounts_find(&list, "/srv/b")->store, "/b2");
	assert_null(mounts_find(&list, "/mnt"));
	mounts_fini(&list);
	assert_int_equal(list.n, 0);
}

static void test_resolve(void **state)
{
	struct err e = ERR_INIT;
	char *path = NULL;
	bool dead = true;

	(void)state;
	assert_int_equal(mounts_resolve("/usr/../usr/./bin/", &path, &dead, &e), 0);
	assert_string_equal(path, "/usr/bin");
	assert_false(dead);
	free(path);
	assert_int_equal(mounts_resolve("/nonexistent", &path, &dead, &e), -ENOENT);
	assert_string_equal(err_text(&e),
			    "cannot use '/nonexistent': No such file or directory");
	assert_string_equal(e.hint, "make the directory first");
	assert_int_equal(mounts_resolve("/proc/self/exe", &path, &dead, &e), -ENOTDIR);
	err_fini(&e);
}

static void test_figures(void **state)
{
	static const struct {
		uint64_t n;
		const char *size, *age;
	} rows[] = {
		{0, "0", "0s"},           {59, "59", "59s"},
		{60, "60", "1m"},         {1023, "1023", "17m"},
		{1024, "1.0K", "17m"},    {3661, "3.6K", "1h1m"},
		{86399, "84K", "23h59m"}, {86400, "84K", "1d"},
		{1048575, "1.0M", "12d"}, {10485760, "10M", "121d"},
	};
	char buf[24];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		listing_size(rows[i].n, buf);
		assert_string_equal(buf, rows[i].size);
		listing_age((time_t)rows[i].n, buf);
		assert_string_equal(buf, rows[i].age);
	}
	listing_size(UINT64_MAX, buf);
	assert_string_equal(buf, "16E");
	listing_age(-5, buf);
	assert_string_equal(buf, "0s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_figures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pg_ident.conf of those who were let in, and roles found in pages of pg_authid. */
#include "unit.h"

#include "pg/roles.h"
#include "pg/rolescan.h"

#include <errno.h>

static void test_list(void **state)
{
	struct roles r = {NULL, 0, 0};
	const char *admins[] = {"root", NULL};
	CLEAN(clean_free) char *strict = NULL, *none = NULL;

	(void)state;
	assert_int_equal(roles_set(&r, "ann", "app_rw"), 1);
	assert_int_equal(roles_set(&r, "ann", "app_rw"), 0);
	assert_int_equal(roles_set(&r, "bob", "app_ro"), 1);
	assert_int_equal(roles_set(&r, "ann", "app_ro"), 1);
	assert_int_equal(r.n, 2);
	assert_int_equal(atomic_load(&r.version), 3);
	strict = pgconf_ident(admins, "postgres", r.v, r.n);
	assert_string_equal(strict, "# made by pgbranchfs at each start\n"
				    "pgbranchfs \"root\" \"postgres\"\n"
				    "pgbranchfs \"ann\" \"app_ro\"\n"
				    "pgbranchfs \"bob\" \"app_ro\"\n");
	/* an empty list lets nobody in */
	none = pgconf_ident(admins, "postgres", r.v, 0);
	assert_string_equal(none, "# made by pgbranchfs at each start\n"
				  "pgbranchfs \"root\" \"postgres\"\n");
	roles_fini(&r);
}

#define COMMITTED 700
#define ABORTED 701

static int committed(void *ctx, uint32_t xid)
{
	(void)ctx;
	return xid == COMMITTED ? 1 : xid == ABORTED ? 0 : -EAGAIN;
}

struct row {
	const char *name;
	uint32_t xmin, xmax;
	uint16_t mask;
	bool super, createrole, login, replication;
};

static void put(uint8_t *page, size_t i, const struct row *r)
{
	size_t off = 8192 - 128 * (i + 1), hoff = 24, len = hoff + 76;
	uint32_t pointer = (uint32_t)(off | 1u << 15 | len << 17);
	uint16_t lower = (uint16_t)(24 + 4 * (i + 1));
	uint8_t *t = page + off, *row = t + hoff;

	memcpy(page + 24 + 4 * i, &pointer, 4);
	memcpy(page + 12, &lower, 2);
	memcpy(t, &r->xmin, 4);
	memcpy(t + 4, &r->xmax, 4);
	memcpy(t + 20, &r->mask, 2);
	t[22] = (uint8_t)hoff;
	memcpy(row + 4, r->name, strlen(r->name));
	row[68] = r->super;
	row[70] = r->createrole;
	row[72] = r->login;
	row[73] = r->replication;
}

static void test_page(void **state)
{
	static const struct {
		const char *what;
		struct row row;
		int rc;
		bool powerful, login;
	} rows[] = {
		{"frozen", {"a", 2, 0, 0x0b00, .login = true}, 1, false, true},
		{"hinted", {"a", 9, 0, 0x0900, .super = false}, 1, false, false},
		{"committed",
		 {"a", COMMITTED, 0, 0x0800, .super = true},
		 1,
		 true,
		 false},
		{"aborted", {"a", ABORTED, 0, 0x0800, .super = false}, 0, false, false},
		{"not told",
		 {"a", 999, 0, 0x0800, .super = false},
		 -EAGAIN,
		 false,
		 false},
		{"invalid", {"a", 999, 0, 0x0a00, .super = false}, 0, false, false},
		{"deleted",
		 {"a", 9, COMMITTED, 0x0100, .super = false},
		 0,
		 false,
		 false},
		{"deleted, hinted",
		 {"a", 9, 999, 0x0500, .super = false},
		 0,
		 false,
		 false},
		{"delete aborted",
		 {"a", 9, ABORTED, 0x0100, .createrole = true, .login = true},
		 1,
		 true,
		 true},
		{"delete not told",
		 {"a", 9, 999, 0x0100, .super = false},
		 -EAGAIN,
		 false,
		 false},
		{"locked", {"a", 9, 999, 0x0180, .replication = true}, 1, true, false},
		{"multi", {"a", 9, 999, 0x1100, .super = false}, -EAGAIN, false, false},
		{"another", {"ab", 9, 0, 0x0900, .super = false}, 0, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		static const struct row other = {"zz", 9, 0, 0x0900, .login = true};
		uint8_t page[ROLESCAN_PAGE] = {0};
		struct role_facts f = {false, false};

		put(page, 0, &other);
		put(page, 1, &rows[i].row);
		ROW_EQUAL(rows[i].what, rolescan_page(page, "a", committed, NULL, &f),
			  rows[i].rc);
		ROW_EQUAL(rows[i].what, f.powerful, rows[i].powerful);
		ROW_EQUAL(rows[i].what, f.can_login, rows[i].login);
	}
}

static void test_bad_page(void **state)
{
	uint8_t page[ROLESCAN_PAGE] = {0};
	struct role_facts f;
	uint16_t lower = 8;
	uint32_t pointer;

	(void)state;
	assert_int_equal(rolescan_page(page, "a", committed, NULL, &f), 0);
	memcpy(page + 12, &lower, 2);
	assert_int_equal(rolescan_page(page, "a", committed, NULL, &f), -EBADMSG);
	lower = 28;
	memcpy(page + 12, &lower, 2);
	pointer = 8190 | 1u << 15 | 100u << 17; /* leads out of the page */
	memcpy(page + 24, &pointer, 4);
	assert_int_equal(rolescan_page(page, "a", committed, NULL, &f), -EBADMSG);
	pointer = 100 | 1u << 15 | 30u << 17; /* too short for a row */
	memcpy(page + 24, &pointer, 4);
	assert_int_equal(rolescan_page(page, "a", committed, NULL, &f), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_bad_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

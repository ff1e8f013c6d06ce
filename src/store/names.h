/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * names.h - the entries of the directories of one layer: an index in memory, and the
 * text that stands for an entry on disk.
 *
 * On disk an entry is a symlink whose target says what the name means; a
 * symlink is made and replaced atomically and its target needs no fsync of its
 * own.  The index is complete: what it does not have, the layer does not have.
 * No locks here: the layer's owner serialises changes, a sealed layer's index
 * never changes.
 */
#ifndef STORE_NAMES_H
#define STORE_NAMES_H

#include "base/cleanup.h"

#include "store/dsync.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#ifndef HASH_NONFATAL_OOM
#define HASH_NONFATAL_OOM 1
#endif
#include <uthash.h>

#define NAME_TARGET_MAX 40 /* bytes of an entry's or attribute's text, with NUL */

enum entry_kind {
	ENTRY_FILE = 'f',
	ENTRY_DIR = 'd',
	ENTRY_SYMLINK = 'l',
	ENTRY_FIFO = 'p',
	ENTRY_SOCKET = 's',
	ENTRY_WHITEOUT = 'w', /* hides the name in the layers below */
	ENTRY_BAD = 'x',      /* its record is damaged: the name gives EIO */
};

struct entry {
	UT_hash_handle hh; /* in struct dirnames, by name */
	uint64_t fid;
	uint64_t cookie; /* order of readdir: a hash of the name, 16 .. 2^63-1 */
	enum entry_kind kind;
	bool on_disk; /* false: follows from the layer being fresh */
	char name[];
};

/* What one layer says about one directory. */
struct dirnames {
	UT_hash_handle hh; /* in the layer, by dir */
	uint64_t dir;
	struct entry *entries;
	bool on_disk;      /* names/DIR exists */
	bool bad;          /* ...and cannot be read: every name in it gives EIO */
	long subdirs;      /* by how many this layer changes their number */
	struct dsync sync; /* of names/DIR */
	atomic_uint refs;  /* the index, and those who sync it */
};

struct dirnames *dirnames_find(struct dirnames *table, uint64_t dir);
/* Finds or adds; NULL: out of memory. */
struct dirnames *dirnames_add(struct dirnames **table, uint64_t dir);
/* Takes it out of the index and gives the index's reference back. */
void dirnames_remove(struct dirnames **table, struct dirnames *d);
void dirnames_put(struct dirnames *d);
void dirnames_free_all(struct dirnames **table);

struct entry *entry_find(const struct dirnames *d, const char *name);
/* Adds or changes; NULL: out of memory (then nothing changed). */
struct entry *entry_set(struct dirnames *d, const char *name, enum entry_kind kind,
			uint64_t fid, bool on_disk);
void entry_remove(struct dirnames *d, struct entry *e);
/* Is it something that a user sees? */
static inline bool entry_visible(const struct entry *e)
{
	return e && e->kind != ENTRY_WHITEOUT;
}

enum entry_kind entry_kind_of_mode(mode_t mode);
mode_t entry_type_mode(enum entry_kind kind); /* S_IFREG... */

/* The texts on disk.  decode: -EBADMSG for anything else than encode makes. */
void entry_encode(enum entry_kind kind, uint64_t fid, char buf[static NAME_TARGET_MAX]);
int entry_decode(const char *text, enum entry_kind *ret_kind,
		 uint64_t *ret_fid) MUST_CHECK;
/* Attributes that differ from those of the file that holds the bytes. */
struct attrs {
	bool has_mode;
	mode_t mode;             /* permission bits */
	uint32_t nlink;          /* names that the file has; 1 unless link() was used */
	struct timespec changed; /* the record's own time on disk, not in its text */
};
void attrs_encode(uint64_t fid, const struct attrs *a,
		  char buf[static NAME_TARGET_MAX]);
int attrs_decode(const char *text, uint64_t fid, struct attrs *ret_attrs) MUST_CHECK;

#endif

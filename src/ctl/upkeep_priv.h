/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * upkeep_priv.h - what gc.c, doctor.c and upkeep.c share: one question on its way.  It
 * belongs to one thread at a time; upkeep_end is its only end.
 */
#ifndef CTL_UPKEEP_PRIV_H
#define CTL_UPKEEP_PRIV_H

#include "ctl/input.h"
#include "ctl/report.h"
#include "ctl/request.h"
#include "ctl/upkeep.h"
#include "store/check.h"

struct gc_item;

struct upkeep {
	struct control *c;
	struct caller who;
	struct input_upkeep ask;
	struct input_adopt adopt; /* name "": not asked for */
	struct request *rq;       /* for the audit line, or NULL */
	control_done done;
	void *ctx;
	struct err err;
	struct str answer;
	struct gc_item *items; /* owned by gc.c */
	size_t n, at;
};

/* rc < 0: u->err says why, or strerror does. */
void upkeep_end(struct upkeep *u, int rc);

/* On the pool; each ends with upkeep_end, now or later. */
void gc_run(void *upkeep);
void doctor_run(void *upkeep);
void adopt_run(void *upkeep);
/* Frees what gc_run collected. */
void gc_free(struct upkeep *u);

#endif

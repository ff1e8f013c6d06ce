/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal is given back in the state it had, whatever ends the watch: a key, a
 * signal (all come through one descriptor), or an error.  Only then something is
 * written to stderr.
 *
 * A frame is written at once: from the first column of the first line, each line
 * cleared behind its end, and all that is below.  So nothing flickers.
 */
#include "cli/watch.h"

#include "base/fd.h"
#include "base/loop.h"
#include "cli/cli.h"
#include "cli/color.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#define ENTER "\033[?1049h\033[?25l" /* the other screen, without a cursor */
#define LEAVE "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K\n"
#define CLEAR_REST "\033[J"

struct watch {
	const struct watch_spec *spec;
	int signal_fd, loaded_fd;
	bool keys; /* stdin is a terminal, and still there */
	bool raw;  /* it has other settings than before */
	struct termios before;

	pthread_t loader;
	bool loading;
	int load_rc; /* written by the loader, as is the next one */
	struct err load_err;
	struct err err;
	bool shown; /* there is something to draw */
	int64_t next_ms;
};

int watch_check(struct err *e)
{
	if (isatty(STDOUT_FILENO) && color_term_is_able(getenv("TERM")))
		return 0;
	(void)err_set(e, -ENOTTY, "there is no terminal to watch on");
	return err_hint(e, "a program reads --json, again and again");
}

static int put(const char *s, size_t len)
{
	return fd_write_full(STDOUT_FILENO, s, len);
}

static int enter(struct watch *w)
{
	struct termios raw;

	w->keys = tcgetattr(STDIN_FILENO, &w->before) == 0;
	if (w->keys) {
		raw = w->before;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 1;
		raw.c_cc[VTIME] = 0;
		w->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	return put(ENTER, strlen(ENTER));
}

static void leave(struct watch *w)
{
	(void)!put(LEAVE, strlen(LEAVE)); /* a terminal that is gone wants nothing */
	if (w->raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &w->before);
}

static int draw(struct watch *w)
{
	CLEAN(str_fini) struct str body = STR_INIT, frame = STR_INIT;
	struct winsize size;

	if (!w->shown)
		return 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
		size = (struct winsize){.ws_col = 80, .ws_row = 24};
	/* a character in the last column, and a line feed in the last line, would
	 * make some terminals go on by themselves */
	w->spec->draw(w->spec->ctx, size.ws_col - 1u, size.ws_row - 1u, &body);
	str_add(&frame, HOME);
	for (const char *p = body.s ? body.s : ""; *p;) {
		size_t len = strcspn(p, "\n");

		str_addn(&frame, p, len);
		str_add(&frame, CLEAR_LINE);
		p += len + (p[len] == '\n');
	}
	str_add(&frame, CLEAR_REST);
	if (body.failed || frame.failed)
		return -ENOMEM;
	return put(frame.s, frame.len);
}

static void *load(void *arg)
{
	struct watch *w = arg;

	w->load_rc = w->spec->load(w->spec->ctx, &w->load_err);
	(void)eventfd_write(w->loaded_fd, 1); /* cannot overflow */
	return NULL;
}

static int start_load(struct watch *w)
{
	int rc = -pthread_create(&w->loader, NULL, load, w);

	w->loading = rc == 0;
	return rc < 0 ? err_set(&w->err, rc, "cannot start a thread: %s",
				strerrordesc_np(-rc))
		      : 0;
}

static int finish_load(struct watch *w)
{
	eventfd_t n;

	(void)eventfd_read(w->loaded_fd, &n);
	(void)pthread_join(w->loader, NULL); /* it has nothing left to do */
	w->loading = false;
	if (w->load_rc < 0) {
		err_move(&w->err, &w->load_err);
		return w->load_rc;
	}
	w->spec->take(w->spec->ctx);
	w->shown = true;
	w->next_ms = loop_now_ms() + (int64_t)w->spec->interval_s * 1000;
	return draw(w);
}

/* 1: it is over. */
static int on_signal(struct watch *w)
{
	struct signalfd_siginfo si;

	if (read(w->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return 0;
	if (si.ssi_signo == SIGTSTP) {
		leave(w);
		(void)raise(SIGSTOP); /* until the shell says continue */
		(void)enter(w);
		return draw(w);
	}
	return si.ssi_signo == SIGWINCH ? draw(w) : 1;
}

static int on_key(struct watch *w)
{
	char c;
	ssize_t n = read(STDIN_FILENO, &c, 1);

	if (n <= 0)
		w->keys = false;
	return n == 1 && (c == 'q' || c == 'Q');
}

/* Waits for what comes next; 1: it is over. */
static int step(struct watch *w)
{
	struct pollfd fds[] = {
		{.fd = w->signal_fd, .events = POLLIN},
		{.fd = w->loaded_fd, .events = POLLIN},
		{.fd = w->keys ? STDIN_FILENO : -1, .events = POLLIN},
	};
	int64_t wait_ms = w->loading ? -1 : w->next_ms - loop_now_ms();
	int rc = 0;

	if (!w->loading && wait_ms <= 0)
		return start_load(w);
	if (poll(fds, ARRAY_SIZE(fds), (int)wait_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[0].revents)
		rc = on_signal(w);
	if (rc == 0 && fds[2].revents)
		rc = on_key(w);
	if (rc == 0 && fds[1].revents)
		rc = finish_load(w);
	return rc;
}

static int watch_signals(struct watch *w)
{
	static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,
				      SIGQUIT, SIGTSTP, SIGWINCH};
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		(void)sigaddset(&set, signals[i]);
	(void)sigprocmask(SIG_BLOCK, &set, NULL); /* cannot fail for these */
	w->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	w->loaded_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return w->signal_fd < 0 || w->loaded_fd < 0 ? -errno : 0;
}

int watch_run(const struct watch_spec *spec)
{
	struct watch w = {.spec = spec, .signal_fd = -1, .loaded_fd = -1};
	int rc = watch_signals(&w), status = CLI_OK;

	if (rc == 0)
		rc = enter(&w);
	while (rc == 0)
		rc = step(&w);
	leave(&w);
	if (rc < 0) {
		if (!w.err.msg)
			(void)err_set(&w.err, rc, "cannot watch: %s",
				      strerrordesc_np(-rc));
		status = cli_fail(&w.err);
	}
	if (w.loading)
		_exit(status); /* the loader still uses what would be freed */
	err_fini(&w.err);
	clean_fd(&w.signal_fd);
	clean_fd(&w.loaded_fd);
	return status;
}

/* SPDX-License-Identifier: MIT */
#include "supervisor/child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/log.h"
#include "shared/process.h"
#include "shared/shared.h"

#define SEC UINT64_C(1000000000)

/* A child does not outlive its supervisor: it could work against those of the next one. */
static void become_child(pid_t supervisor)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != supervisor)
		_exit(EXIT_FAILURE);
	process_unhurry();
	log_forget();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_start(struct child *c, int (*step)(struct device *device), struct device *device,
		 unsigned limit)
{
	pid_t supervisor = getpid(), pid = fork();

	if (pid == 0) {
		become_child(supervisor);
		_exit(-step(device) & 0xff);
	}
	*c = (struct child){.pidfd = -1};
	if (pid < 0) {
		c->over = true;
		c->err = -errno;
		return;
	}
	c->pid = pid;
	c->pidfd = pidfd_open(pid, 0); /* if there is none, child_tick() asks */
	c->deadline_ns = limit ? now_ns() + limit * SEC : 0;
}

void child_cancel(struct child *c, int why)
{
	if (!c->pid)
		return;
	c->killed = why;
	kill(c->pid, SIGKILL);
}

/* If somebody else has killed the child, that is the OOM killer most likely. */
static int outcome(const struct child *c, int status)
{
	if (WIFEXITED(status))
		return -WEXITSTATUS(status);
	return c->killed ? c->killed : -ENOMEM;
}

void child_tick(struct child *c)
{
	int status;

	if (!c->pid)
		return;
	if (waitpid(c->pid, &status, WNOHANG) == c->pid) {
		c->err = outcome(c, status);
		c->over = true;
		c->pid = 0;
		if (c->pidfd >= 0)
			close(c->pidfd);
		c->pidfd = -1;
	} else if (c->deadline_ns && now_ns() > c->deadline_ns) {
		log_error("a step of the device's takes too long: ending it");
		c->deadline_ns = 0;
		child_cancel(c, -ETIMEDOUT);
	}
}

int child_take(struct child *c)
{
	c->over = false;
	return c->err;
}

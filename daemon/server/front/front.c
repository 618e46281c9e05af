/* SPDX-License-Identifier: MIT */
#include "server/front/front.h"

#include <signal.h>
#include <unistd.h>

#include "server/jail.h"
#include "shared/shared.h"

#define STACK_TOUCH  (64u << 10)
#define INTERRUPT_US 1000

/* --- times --- */

static void stamp(_Atomic uint64_t *last, _Atomic uint64_t *longest, uint64_t since)
{
	uint64_t took = now_ns() - since;

	if (!since)
		return;
	atomic_store(last, took);
	if (took > atomic_load(longest))
		atomic_store(longest, took);
}

void front_serves(struct front_context *c)
{
	struct status *status = c->status;

	if (atomic_load(&status->serving_ns))
		return;
	atomic_store(&status->heartbeat_ns, now_ns());
	atomic_store(&status->serving_ns, now_ns());
	stamp(&status->recovery_ns, &status->recovery_max_ns, c->since);
}

void front_answered(struct front_context *c)
{
	if (atomic_flag_test_and_set(&c->answered))
		return;
	atomic_fetch_add(&c->status->answerers, 1);
	stamp(&c->status->outage_ns, &c->status->outage_max_ns, c->since);
}

/* --- threads --- */

static void on_interrupt(int signal)
{
}

/* Not inlined, so that the functions that are called after it use the same pages. */
__attribute__((noinline)) static void touch_stack(void)
{
	volatile char stack[STACK_TOUCH];

	for (size_t i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 0;
}

static void *thread_main(void *arg)
{
	struct front_thread *t = arg;
	sigset_t interrupt;
	void *ret;

	pthread_setname_np(pthread_self(), t->name);
	touch_stack();
	sigemptyset(&interrupt);
	sigaddset(&interrupt, JAIL_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
	ret = t->main(t->arg);
	atomic_store(&t->running, false);
	return ret;
}

int front_thread_start(struct front_thread *t, const char *name, void *(*main)(void *arg),
		       void *arg)
{
	const struct sigaction interrupt = {.sa_handler = on_interrupt}; /* no SA_RESTART */

	*t = (struct front_thread){.main = main, .arg = arg, .name = name, .running = true};
	sigaction(JAIL_SIGNAL, &interrupt, NULL);
	return -pthread_create(&t->thread, NULL, thread_main, t);
}

void front_thread_end(struct front_thread *t)
{
	/* Again and again: a signal that comes just before the system call does not interrupt it.
	 */
	while (atomic_load(&t->running)) {
		pthread_kill(t->thread, JAIL_SIGNAL);
		usleep(INTERRUPT_US);
	}
}

bool front_thread_stuck(struct front_thread *t)
{
	uint64_t steps = atomic_load_explicit(&t->steps, memory_order_relaxed);
	bool stuck = steps % 2 != 0 && steps == t->seen;

	t->seen = steps;
	return stuck;
}

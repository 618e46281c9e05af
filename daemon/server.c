/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"
#include "process.h"
#include "uzram/store.h"

#define HEARTBEAT_SECONDS 1

static int open_store(const struct server_config *sc, struct uz_store **ret)
{
	const struct config *c = sc->config;
	struct uz_store_config store = {
		.codec = c->algorithm,
		.level = c->level,
		.mem_limit = c->mem_limit,
		.reserve = c->reserve,
		.deferred = c->deferred,
		.defer_spares = c->deferred_pool,
		.defer_age_ms = c->deferred_age,
	};
	int err = uz_arena_attach(sc->arena_fd, &store.arena);

	if (err)
		return err;
	err = uz_store_new(&store, ret);
	if (err)
		uz_arena_free(store.arena);
	return err;
}

static void beat(struct shared *shared, struct uz_store *store)
{
	struct uz_store_stat st;
	struct timespec now;

	uz_store_stat(store, &st);
	atomic_store(&shared->pages_stored, st.pages_stored);
	atomic_store(&shared->compr_bytes, st.compr_bytes);
	atomic_store(&shared->mem_used, st.mem_used);
	clock_gettime(CLOCK_MONOTONIC, &now);
	atomic_store(&shared->heartbeat,
		     (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
}

static void beat_until_sigterm(struct shared *shared, struct uz_store *store)
{
	const struct timespec interval = {.tv_sec = HEARTBEAT_SECONDS};
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	do
		beat(shared, store);
	while (sigtimedwait(&term, NULL, &interval) < 0);
}

int server_main(const struct server_config *sc)
{
	enum request ready = REQUEST_READY;
	struct control *control;
	struct uz_store *store;
	sigset_t all;
	int err;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL); /* inherited by every thread */
	process_keep_heap();
	err = process_lock_memory();
	if (err) {
		log_error("can't lock memory: %s; it takes CAP_IPC_LOCK or LimitMEMLOCK=infinity",
			  strerror(-err));
		return EXIT_FAILURE;
	}
	err = open_store(sc, &store);
	if (err) {
		log_error("can't open the store: %s", strerror(-err));
		return EXIT_FAILURE;
	}
	err = control_new(sc->config, store, sc->shared, sc->socket, &control);
	if (!err)
		err = front_fuse_serve(sc->mount, store, control, sc->again);
	if (err || send(sc->socket, &ready, sizeof(ready), MSG_NOSIGNAL) < 0) {
		log_error("can't serve: %s", strerror(err ? -err : errno));
		return EXIT_FAILURE;
	}
	beat_until_sigterm(sc->shared, store);
	/* Whoever waits for an answer to a control file gets it. The workers end with the process.
	 */
	control_finish(control);
	return EXIT_SUCCESS;
}

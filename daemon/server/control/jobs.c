/* SPDX-License-Identifier: MIT */
#include "server/control/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/control/attributes.h"

#define JOBS_MAX 16

struct job {
	const struct attribute *attribute;
	char value[CONTROL_VALUE_MAX + 1];
	void (*done)(void *arg, int err);
	void *arg;
};

/* A ring. lock guards all. */
struct jobs {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct job ring[JOBS_MAX];
	unsigned first, count;
	bool finish;
	pthread_t thread;
};

static void *control_main(void *arg)
{
	struct control *c = arg;
	struct jobs *q = c->jobs;

	pthread_setname_np(pthread_self(), "uz-control");
	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct job job;

		while (!q->count && !q->finish)
			pthread_cond_wait(&q->more, &q->lock);
		if (!q->count)
			break;
		job = q->ring[q->first];
		q->first = (q->first + 1) % JOBS_MAX;
		q->count--;
		pthread_mutex_unlock(&q->lock);
		job.done(job.arg, job.attribute->set(c, job.value));
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static bool enqueue(struct jobs *q, const struct job *job)
{
	bool room;

	pthread_mutex_lock(&q->lock);
	room = q->count < JOBS_MAX;
	if (room) {
		q->ring[(q->first + q->count++) % JOBS_MAX] = *job;
		pthread_cond_signal(&q->more);
	}
	pthread_mutex_unlock(&q->lock);
	return room;
}

int control_new(const struct config *config, struct uz_store *store, const struct state *state,
		struct status *status, int socket, const struct latency *latency,
		struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));
	struct jobs *q = calloc(1, sizeof(*q));
	int err;

	if (!c || !q) {
		free(c);
		free(q);
		return -ENOMEM;
	}
	*c = (struct control){config, store, state, status, socket, latency, q};
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->more, NULL);
	err = pthread_create(&q->thread, NULL, control_main, c);
	if (err) {
		free(c);
		free(q);
		return -err;
	}
	*ret = c;
	return 0;
}

void control_finish(struct control *c)
{
	pthread_mutex_lock(&c->jobs->lock);
	c->jobs->finish = true;
	pthread_cond_signal(&c->jobs->more);
	pthread_mutex_unlock(&c->jobs->lock);
	pthread_join(c->jobs->thread, NULL);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

void control_set(struct control *c, const struct attribute *a, const char *value, size_t len,
		 void (*done)(void *arg, int err), void *arg)
{
	struct job job = {.attribute = a, .done = done, .arg = arg};

	while (len && is_blank(value[len - 1]))
		len--;
	while (len && is_blank(value[0])) {
		value++;
		len--;
	}
	if (len > CONTROL_VALUE_MAX || memchr(value, '\0', len)) {
		done(arg, -EINVAL);
		return;
	}
	memcpy(job.value, value, len);
	if (!a->slow)
		done(arg, a->set(c, job.value));
	else if (!enqueue(c->jobs, &job))
		done(arg, -EBUSY);
}

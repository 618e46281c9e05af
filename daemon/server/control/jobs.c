/* SPDX-License-Identifier: MIT */
#include "server/control/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define JOBS_MAX 16

struct job {
	int (*run)(struct control *control);
	struct waiter waiter;
};

/* lock guards all but control and thread. */
struct jobs {
	struct control *control;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct job ring[JOBS_MAX]; /* count jobs from first on */
	unsigned first, count;
	bool finish;
};

static void *jobs_main(void *arg)
{
	struct jobs *q = arg;

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
		job.waiter.done(&job.waiter, job.run(q->control));
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

int jobs_new(struct control *control, struct jobs **ret)
{
	struct jobs *q = calloc(1, sizeof(*q));
	int err;

	if (!q)
		return -ENOMEM;
	q->control = control;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->more, NULL);
	err = pthread_create(&q->thread, NULL, jobs_main, q);
	if (err) {
		free(q);
		return -err;
	}
	*ret = q;
	return 0;
}

void jobs_finish(struct jobs *q)
{
	pthread_mutex_lock(&q->lock);
	q->finish = true;
	pthread_cond_signal(&q->more);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
}

bool jobs_add(struct jobs *q, int (*run)(struct control *control), const struct waiter *w)
{
	bool room;

	pthread_mutex_lock(&q->lock);
	room = q->count < JOBS_MAX;
	if (room) {
		q->ring[(q->first + q->count++) % JOBS_MAX] = (struct job){run, *w};
		pthread_cond_signal(&q->more);
	}
	pthread_mutex_unlock(&q->lock);
	return room;
}

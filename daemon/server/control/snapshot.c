/* SPDX-License-Identifier: MIT */
#include "server/control/snapshot.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/control/attributes.h"
#include "shared/shared.h"

#define SNAPSHOTS 16

/* A handle is a time in microseconds, by which it is the only one, and the length of the text, by
 * which every server can tell whether its reader has had all. */
#define LENGTH_BITS 14

_Static_assert(CONTROL_TEXT_MAX == 1u << LENGTH_BITS, "a text, with its final 0, is no longer");

struct snapshot {
	uint64_t handle; /* 0: nobody's */
	uint64_t used;	 /* the value that uses had then; 0: nobody's */
	const struct attribute *attribute;
	bool fresh; /* nothing of the text was read */
	char text[CONTROL_TEXT_MAX];
};

/* lock guards all. Only workers take it, and only for control files. */
struct snapshots {
	pthread_mutex_t lock;
	uint64_t last; /* handle's time */
	uint64_t uses;
	struct snapshot all[SNAPSHOTS];
};

int snapshots_new(struct snapshots **ret)
{
	struct snapshots *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s)); /* and have it touched, unlike calloc() */
	pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

static struct snapshot *find(struct snapshots *s, uint64_t handle)
{
	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		if (handle && s->all[i].handle == handle)
			return &s->all[i];
	}
	return NULL;
}

static void print(struct snapshot *snapshot, struct control *c)
{
	snapshot->attribute->show(c, snapshot->text, CONTROL_TEXT_MAX);
	snapshot->fresh = true;
}

/* The one that is nobody's, or has not been used for the longest time; with a text. */
static struct snapshot *take(struct snapshots *s, struct control *c, const struct attribute *a)
{
	struct snapshot *oldest = &s->all[0];

	for (unsigned i = 1; i < SNAPSHOTS; i++) {
		if (s->all[i].used < oldest->used)
			oldest = &s->all[i];
	}
	oldest->attribute = a;
	oldest->used = ++s->uses;
	print(oldest, c);
	return oldest;
}

uint64_t snapshots_open(struct snapshots *s, struct control *c, const struct attribute *a)
{
	uint64_t now = now_ns() / 1000;
	struct snapshot *snapshot;

	pthread_mutex_lock(&s->lock);
	/* Servers serve one after the other, so that by the clock none gives what another gave. */
	s->last = now > s->last ? now : s->last + 1;
	snapshot = take(s, c, a);
	snapshot->handle = s->last << LENGTH_BITS | strlen(snapshot->text);
	now = snapshot->handle;
	pthread_mutex_unlock(&s->lock);
	return now;
}

/* At most size bytes of text from off on. */
static int copy(const char *text, uint64_t off, char *buf, size_t size)
{
	size_t len = strlen(text);

	if (off >= len)
		return 0;
	if (size > len - off)
		size = len - off;
	memcpy(buf, text + off, size);
	return (int)size;
}

int snapshots_read(struct snapshots *s, uint64_t handle, struct control *c,
		   const struct attribute *a, uint64_t off, char *buf, size_t size)
{
	struct snapshot *snapshot;
	int len = off == handle % CONTROL_TEXT_MAX ? 0 : -ESTALE;

	pthread_mutex_lock(&s->lock);
	snapshot = find(s, handle);
	if (snapshot && snapshot->attribute != a)
		snapshot = NULL;
	if (!snapshot && !off) {
		snapshot = take(s, c, a);
		snapshot->handle = handle;
	}
	if (snapshot) {
		if (!off && !snapshot->fresh)
			print(snapshot, c);
		snapshot->fresh = false;
		snapshot->used = ++s->uses;
		len = copy(snapshot->text, off, buf, size);
	}
	pthread_mutex_unlock(&s->lock);
	return len;
}

void snapshots_close(struct snapshots *s, uint64_t handle)
{
	struct snapshot *snapshot;

	pthread_mutex_lock(&s->lock);
	snapshot = find(s, handle);
	if (snapshot)
		snapshot->handle = snapshot->used = 0;
	pthread_mutex_unlock(&s->lock);
}

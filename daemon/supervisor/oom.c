/* SPDX-License-Identifier: MIT */
#include "supervisor/oom.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICKS_SHORT 5  /* seconds of shortage before the OOM killer is called */
#define TICKS_GIVEN 10 /* ... and before it is called again */
#define SHARE	    50 /* of the memory: less than this part of it available is next to none */

/* The number of KiB after name in the text of /proc/meminfo; 0: there is none. */
static uint64_t field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* The kernel allocates its buffer for the text at the first read, and keeps it. */
static bool is_memory_short(const struct oom *o)
{
	char text[512]; /* the fields stand at the beginning */
	ssize_t len = pread(o->meminfo, text, sizeof(text) - 1, 0);

	if (len <= 0)
		return false;
	text[len] = '\0';
	return field(text, "MemAvailable:") < field(text, "MemTotal:") / SHARE;
}

void oom_init(struct oom *o)
{
	*o = (struct oom){
		.meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC),
		.trigger = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC),
	};
	(void)is_memory_short(o); /* for the sake of that buffer */
}

bool oom_tick(struct oom *o, uint64_t failed)
{
	bool more = failed > o->failed;

	o->failed = failed;
	if (o->meminfo < 0 || o->trigger < 0)
		return false;
	if (o->ticks < 0)
		o->ticks++;
	else
		o->ticks = more && is_memory_short(o) ? o->ticks + 1 : 0;
	if (o->ticks < TICKS_SHORT)
		return false;
	o->ticks = -TICKS_GIVEN;
	return write(o->trigger, "f", 1) == 1;
}

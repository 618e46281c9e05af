/* SPDX-License-Identifier: MIT */
#include "config/machine.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#define CGROUPS	   "/sys/fs/cgroup"
#define CGROUP_MAX (sizeof(CGROUPS) + PATH_MAX)

/* The path of this process's cgroup, below CGROUPS; "" if there is none of version 2. */
static void find_cgroup(char path[CGROUP_MAX])
{
	char line[PATH_MAX];
	FILE *f = fopen("/proc/self/cgroup", "re");

	path[0] = '\0';
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "0::/", 4))
			snprintf(path, CGROUP_MAX, "%s%s", CGROUPS, line + 3);
	}
	fclose(f);
}

/* What one cgroup allows; UINT64_MAX if it has no limit. */
static uint64_t read_limit(const char *cgroup)
{
	char path[CGROUP_MAX + sizeof("/memory.max")];
	uint64_t limit;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.max", cgroup);
	f = fopen(path, "re");
	if (!f)
		return UINT64_MAX;
	if (fscanf(f, "%" SCNu64, &limit) != 1) /* "max" */
		limit = UINT64_MAX;
	fclose(f);
	return limit;
}

static uint64_t cgroup_limit(void)
{
	char cgroup[CGROUP_MAX];
	uint64_t least = UINT64_MAX;

	find_cgroup(cgroup);
	for (size_t len = strlen(cgroup); len > strlen(CGROUPS); len = strlen(cgroup)) {
		least = MIN(least, read_limit(cgroup));
		*strrchr(cgroup, '/') = '\0';
	}
	return least;
}

void machine_look(struct machine *ret)
{
	ret->ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	ret->room = MIN(ret->ram, cgroup_limit());
	ret->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

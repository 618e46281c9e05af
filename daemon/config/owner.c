/* SPDX-License-Identifier: MIT */
#include "config/owner.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

int owner_find_user(const char *name, uint32_t *ret)
{
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd *user;
	int err = -ENOENT;

	while (f && err && (user = fgetpwent(f))) {
		if (strcmp(user->pw_name, name) == 0) {
			*ret = user->pw_uid;
			err = 0;
		}
	}
	if (f)
		fclose(f);
	return err;
}

int owner_find_group(const char *name, uint32_t *ret)
{
	FILE *f = fopen("/etc/group", "re");
	struct group *group;
	int err = -ENOENT;

	while (f && err && (group = fgetgrent(f))) {
		if (strcmp(group->gr_name, name) == 0) {
			*ret = group->gr_gid;
			err = 0;
		}
	}
	if (f)
		fclose(f);
	return err;
}

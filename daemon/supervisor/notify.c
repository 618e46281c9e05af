/* SPDX-License-Identifier: MIT */
#include "supervisor/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The manager's address; false: there is none. A leading '@' stands for the abstract namespace. */
static bool manager_address(struct sockaddr_un *ret, socklen_t *ret_len)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (!len || len >= sizeof(ret->sun_path))
		return false;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path, path, len);
	if (path[0] == '@')
		ret->sun_path[0] = '\0';
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return true;
}

static int notify_socket(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd;
}

/* fd: -1, or to be sent along. */
static bool send_message(char *text, size_t len, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct sockaddr_un address;
	struct iovec iov = {text, len};
	struct msghdr msg = {.msg_name = &address, .msg_iov = &iov, .msg_iovlen = 1};

	if (!manager_address(&address, &msg.msg_namelen))
		return true;
	if (fd >= 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)),
		};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	}
	return sendmsg(notify_socket(), &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

bool notify(const char *fmt, ...)
{
	char text[512];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return send_message(text, len < (int)sizeof(text) ? (size_t)len : sizeof(text) - 1, -1);
}

bool notify_store_fd(const char *name, int fd)
{
	char text[64];
	/* FDPOLL=0: systemd would wait for events on /dev/fuse, that is wake up with every request.
	 */
	int len = snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);

	return send_message(text, (size_t)len, fd);
}

bool notify_forget_fd(const char *name)
{
	return notify("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

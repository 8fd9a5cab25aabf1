/* SPDX-License-Identifier: MIT */
#include "httpd/resource.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "httpd/root.h"
#include "httpd/server.h"

bool resource_may_grow(const struct server *s, int fd, const struct stat *st)
{
	return st->st_dev == s->root_device ? s->root_is_live : state_is_known(fd);
}

static int open_flags(mode_t mode)
{
	if (S_ISREG(mode))
		return O_RDONLY | O_NONBLOCK | O_NOCTTY;
	if (S_ISDIR(mode))
		return O_RDONLY | O_DIRECTORY;
	return -EACCES;
}

int resource_open(const struct server *s, const char *name, struct resource *ret)
{
	autoclose int path = root_open(s->root, name, O_PATH, 0), fd = -1;
	struct stat st;
	int flags;

	if (path < 0)
		return path;
	if (fstat(path, &st))
		return -errno;
	flags = open_flags(st.st_mode);
	if (flags < 0)
		return flags;
	fd = root_reopen(path, flags);
	if (fd < 0)
		return fd;
	ret->state = STATE_PLAIN;
	if (S_ISREG(st.st_mode) && resource_may_grow(s, fd, &st))
		ret->state = state_get(fd);
	/* After the state: a file that was complete then is at least this long now. */
	if (fstat(fd, &ret->st))
		return -errno;
	ret->fd = steal_fd(&fd);
	return 0;
}

void resource_close(struct resource *r)
{
	cleanup_close(&r->fd);
	r->fd = -1;
}

/* SPDX-License-Identifier: MIT */
#include "httpd/state.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "common/cleanup.h"
#include "common/parse.h"

#define PROGRESS      "user.rww.progress"
#define DECLARED      "user.rww.size"
#define PROGRESS_SIZE 192

static const char *const names[] = {
	[STATE_PLAIN] = "complete",
	[STATE_GROWING] = "growing",
	[STATE_COMPLETE] = "complete",
	[STATE_ABORTED] = "aborted",
};

const char *state_name(enum state state)
{
	return names[state];
}

/* The value as a string. */
static int get(int fd, const char *name, char *buf, size_t size)
{
	ssize_t n = fgetxattr(fd, name, buf, size - 1);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

/* A line of /proc/self/mountinfo (proc(5)): "36 35 0:98 / /mnt rw - fuse.rwwfs ...". */
static bool is_rwwfs(const char *line, dev_t device)
{
	unsigned major, minor;

	return sscanf(line, "%*u %*u %u:%u", &major, &minor) == 2 &&
	       makedev(major, minor) == device && strstr(line, " - fuse.rwwfs ");
}

/* By the number of its device. */
static int is_on_rwwfs(int fd)
{
	autofree char *line = NULL;
	size_t size = 0;
	struct stat st;
	int found = 0;
	FILE *f;

	if (fstat(fd, &st))
		return -errno;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -errno;
	while (!found && getline(&line, &size, f) >= 0)
		found = is_rwwfs(line, st.st_dev);
	if (!found && !feof(f))
		found = -errno;
	(void)fclose(f); /* only read from */
	return found;
}

/* A plain filesystem may carry attributes of this name too: a store served directly, say. What has
 * none may be a directory, or of another program than ours, or not answer. */
int state_is_known(int fd)
{
	struct statfs fs;
	char buf[32];
	int r;

	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type != FUSE_SUPER_MAGIC)
		return 0;
	r = get(fd, "user.rww.state", buf, sizeof(buf));
	if (r == -EOPNOTSUPP)
		return 0;
	return r < 0 ? is_on_rwwfs(fd) : 1;
}

static enum state state_of_name(const char *name)
{
	for (int s = STATE_GROWING; s <= STATE_ABORTED; s++)
		if (!strcmp(name, names[s]))
			return s;
	return STATE_PLAIN;
}

static int progress_parse(const char *text, struct progress *ret)
{
	struct progress p = {0};
	char state[16], size[24], more[16];
	intmax_t changed, written;
	int found = sscanf(text, "%15s %" SCNu64 " %23s %" SCNu64 " %jd.%ld %jd.%ld %15s", state,
		&p.edge, size, &p.cuts, &changed, &p.changed.tv_nsec, &written, &p.written.tv_nsec,
		more);

	if (found < 8)
		return -EPROTO;
	p.settling = found > 8;
	p.changed.tv_sec = changed;
	p.written.tv_sec = written;
	p.state = state_of_name(state);
	p.declared = !parse_u64(size, &p.size);
	*ret = p;
	return 0;
}

int state_progress(int fd, struct progress *ret)
{
	char buf[PROGRESS_SIZE];
	int r = get(fd, PROGRESS, buf, sizeof(buf));

	return r < 0 ? r : progress_parse(buf, ret);
}

/* A name that is gone is no plain file, nor is one on a mount that is. */
int state_of_error(int error, uint64_t st_size, struct progress *ret)
{
	switch (error) {
	case -EAGAIN:
		*ret = (struct progress){.state = STATE_GROWING, .edge = st_size};
		return 0;
	case 0:
	case -ENODATA:
	case -EOPNOTSUPP:
	case -EACCES:
	case -EPERM:
		*ret = (struct progress){.state = STATE_PLAIN, .edge = st_size};
		return 0;
	default:
		return error;
	}
}

/* Of a file that is being cut and has a declared size st_size is that, and tells nothing of what
 * there is. size: the one that it declares, as text. */
static int or_plain(int r, uint64_t st_size, const char *size, struct progress *ret)
{
	if (r < 0)
		r = state_of_error(r, st_size, ret);
	if (r < 0 || !*size)
		return r;
	ret->declared = !parse_u64(size, &ret->size);
	ret->edge = ret->declared ? 0 : st_size;
	return 0;
}

int state_or_plain(int fd, uint64_t st_size, struct progress *ret)
{
	char size[24] = "";
	int r = state_progress(fd, ret);

	if (r == -EAGAIN)
		(void)get(fd, DECLARED, size, sizeof(size)); /* it may have none */
	return or_plain(r, st_size, size, ret);
}

int state_or_plain_at(int directory, const char *name, uint64_t st_size, struct progress *ret)
{
	char path[sizeof("/proc/self/fd/-2147483648/") + NAME_MAX], buf[PROGRESS_SIZE] = "";
	char size[24] = "";
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", directory, name);
	r = lgetxattr(path, PROGRESS, buf, sizeof(buf) - 1) < 0 ? -errno : progress_parse(buf, ret);
	if (r == -EAGAIN)
		(void)lgetxattr(path, DECLARED, size, sizeof(size) - 1); /* likewise */
	return or_plain(r, st_size, size, ret);
}

int state_declare_size(int fd, uint64_t size)
{
	char buf[32];
	int n = snprintf(buf, sizeof(buf), "%" PRIu64, size);

	return fsetxattr(fd, DECLARED, buf, (size_t)n, 0) ? -errno : 0;
}

int state_abort(int fd, const char *reason)
{
	char value[128];
	int n = snprintf(value, sizeof(value), "%s %.100s", names[STATE_ABORTED], reason);

	return fsetxattr(fd, "user.rww.state", value, (size_t)n, 0) ? -errno : 0;
}

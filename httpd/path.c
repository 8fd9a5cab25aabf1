/* SPDX-License-Identifier: MIT */
#include "httpd/path.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One decoded byte, never NUL; *p moves past it. */
static int decode(const char **p)
{
	int high, low;

	if (**p != '%')
		return (unsigned char)*(*p)++;
	high = hex_digit((*p)[1]);
	low = high < 0 ? -1 : hex_digit((*p)[2]);
	if (low < 0 || !(high | low))
		return -EINVAL;
	*p += 3;
	return high << 4 | low;
}

/* Where the path begins: behind the authority of an absolute-form. */
static const char *skip_authority(const char *target)
{
	size_t scheme = !strncasecmp(target, "http://", 7)    ? 7
			: !strncasecmp(target, "https://", 8) ? 8
							      : 0;

	if (!scheme)
		return target;
	target += scheme;
	target += strcspn(target, "/");
	return *target ? target : "/";
}

static void segment_drop(struct path *path)
{
	path->len = path_parent_len(path->name);
	path->name[path->len] = '\0';
}

/* Takes in the segment that was appended to path at start: "." and ".." go, dot files are
 * noted, everything else stays. */
static int segment_end(struct path *path, size_t start)
{
	const char *segment = path->name + start;
	bool up;

	path->name[path->len] = '\0';
	up = !strcmp(segment, "..");
	path->directory = up || !*segment || !strcmp(segment, ".");
	if (!path->directory)
		return 0;
	if (up && !start)
		return -EINVAL;
	path->len = start ? start - 1 : 0;
	path->name[path->len] = '\0';
	if (up)
		segment_drop(path);
	return 0;
}

static bool name_is_hidden(const char *name)
{
	return name[0] == '.' || strstr(name, "/.");
}

/* Appends one decoded segment, up to the next slash, encoded or not. */
static int segment_append(struct path *path, const char **text)
{
	const char *p = *text;

	while (*p) {
		int c;

		*text = p;
		c = decode(&p);
		if (c < 0)
			return c;
		if (c == '/')
			return 0;
		if (path->len + 2 >= sizeof(path->name))
			return -ENAMETOOLONG;
		path->name[path->len++] = (char)c;
	}
	*text = p;
	return 0;
}

int path_parse(const char *target, struct path *ret)
{
	const char *p = skip_authority(target);

	ret->len = 0;
	ret->name[0] = '\0';
	if (*p != '/')
		return -EINVAL;
	while (*p) {
		size_t start = 0;
		int r;

		(void)decode(&p); /* the slash that segment_append() stopped at */
		if (ret->len) {
			ret->name[ret->len++] = '/';
			start = ret->len;
		}
		r = segment_append(ret, &p);
		if (!r)
			r = segment_end(ret, start);
		if (r < 0)
			return r;
	}
	ret->hidden = name_is_hidden(ret->name);
	return 0;
}

static bool is_plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       strchr("-._~/!$()*+,=@", c) != NULL;
}

bool path_encode(const char *name, char *buf, size_t size)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		if (n + 4 > size)
			return false;
		if (is_plain(*p)) {
			buf[n++] = (char)*p;
			continue;
		}
		buf[n++] = '%';
		buf[n++] = hex[*p >> 4];
		buf[n++] = hex[*p & 15];
	}
	if (n >= size)
		return false;
	buf[n] = '\0';
	return true;
}

const char *path_base(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

size_t path_parent_len(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? (size_t)(slash - name) : 0;
}

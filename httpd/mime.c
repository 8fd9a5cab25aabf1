/* SPDX-License-Identifier: MIT */
#include "httpd/mime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/log.h"

#define BUCKETS 1024
#define UNKNOWN "application/octet-stream"

struct entry {
	struct entry *next;
	char *type;
	char extension[];
};

struct mime {
	struct entry *bucket[BUCKETS];
};

static const char *const preceding[][2] = {
	{"video/mp2t", "ts"},
	{"video/iso.segment", "m4s"},
	{"application/vnd.apple.mpegurl", "m3u8"},
	{"application/dash+xml", "mpd"},
	{"text/plain", "log"},
	{"application/x-ndjson", "ndjson"},
	{"application/x-ndjson", "jsonl"},
	{"text/markdown", "md"},
};

static const char *const fallback[][2] = {
	{"text/html", "html"},
	{"text/html", "htm"},
	{"text/plain", "txt"},
	{"text/css", "css"},
	{"text/csv", "csv"},
	{"text/javascript", "js"},
	{"application/json", "json"},
	{"application/xml", "xml"},
	{"application/pdf", "pdf"},
	{"application/gzip", "gz"},
	{"application/zip", "zip"},
	{"image/png", "png"},
	{"image/jpeg", "jpg"},
	{"image/jpeg", "jpeg"},
	{"image/gif", "gif"},
	{"image/svg+xml", "svg"},
	{"image/webp", "webp"},
	{"audio/mpeg", "mp3"},
	{"audio/ogg", "ogg"},
	{"audio/flac", "flac"},
	{"audio/wav", "wav"},
	{"video/mp4", "mp4"},
	{"video/webm", "webm"},
	{"video/x-matroska", "mkv"},
};

static unsigned bucket_of(const char *extension)
{
	unsigned h = 5381;

	for (; *extension; extension++)
		h = h * 33 + (unsigned char)(*extension | 0x20);
	return h % BUCKETS;
}

static const struct entry *find(const struct mime *mime, const char *extension)
{
	const struct entry *e = mime->bucket[bucket_of(extension)];

	while (e && strcasecmp(e->extension, extension))
		e = e->next;
	return e;
}

static bool needs_charset(const char *type)
{
	return !strncmp(type, "text/", 5) || !strcmp(type, "application/json") ||
	       !strcmp(type, "application/javascript");
}

/* The first type of an extension wins. Out of memory: it stays unknown. */
static void add(void *data, const char *type, const char *extension)
{
	struct mime *mime = data;
	unsigned b = bucket_of(extension);
	size_t len = strlen(extension) + 1;
	struct entry *e;

	if (find(mime, extension))
		return;
	e = malloc(sizeof(*e) + len);
	if (!e)
		return;
	if (asprintf(&e->type, "%s%s", type, needs_charset(type) ? "; charset=utf-8" : "") < 0) {
		free(e);
		return;
	}
	memcpy(e->extension, extension, len);
	e->next = mime->bucket[b];
	mime->bucket[b] = e;
}

void mime_parse_line(char *line, void (*fn)(void *, const char *, const char *), void *data)
{
	static const char space[] = " \t\r\n\f\v";
	char *save, *type, *extension;

	line[strcspn(line, "#")] = '\0';
	type = strtok_r(line, space, &save);
	if (!type || !strchr(type, '/'))
		return;
	while ((extension = strtok_r(NULL, space, &save)))
		fn(data, type, extension);
}

static void read_table(struct mime *mime, const char *file)
{
	FILE *f = fopen(file, "re");
	autofree char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) >= 0)
		mime_parse_line(line, add, mime);
	if (!f || ferror(f))
		log_at(!f && errno == ENOENT && !strcmp(file, MIME_TYPES) ? LOG_TRACE : LOG_WARN,
			"cannot read the media types of %s: %s, ignoring", file, strerror(errno));
	if (f)
		(void)fclose(f); /* only read from */
}

struct mime *mime_new(const char *file)
{
	struct mime *mime = calloc(1, sizeof(*mime));

	if (!mime)
		return NULL;
	for (size_t i = 0; i < sizeof(preceding) / sizeof(preceding[0]); i++)
		add(mime, preceding[i][0], preceding[i][1]);
	read_table(mime, file);
	for (size_t i = 0; i < sizeof(fallback) / sizeof(fallback[0]); i++)
		add(mime, fallback[i][0], fallback[i][1]);
	return mime;
}

void mime_free(struct mime *mime)
{
	if (!mime)
		return;
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct entry *e = mime->bucket[b], *next; e; e = next) {
			next = e->next;
			free(e->type);
			free(e);
		}
	}
	free(mime);
}

const char *mime_of_name(const struct mime *mime, const char *name)
{
	const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
	const struct entry *e = dot ? find(mime, dot + 1) : NULL;

	return e ? e->type : UNKNOWN;
}

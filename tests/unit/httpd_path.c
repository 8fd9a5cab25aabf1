/* SPDX-License-Identifier: MIT */
#include "httpd/path.h"

#include <errno.h>

#include "check.h"
#include "httpd/mime.h"

static void test_parse(void)
{
	static const struct {
		const char *target, *name;
		bool directory, hidden;
		int error;
	} row[] = {
		{"/", "", true},
		{"/a", "a", false},
		{"/a/", "a", true},
		{"/a/b.txt", "a/b.txt", false},
		{"//a///b", "a/b", false},
		{"/a/./b", "a/b", false},
		{"/a/.", "a", true},
		{"/a/..", "", true},
		{"/a/b/..", "a", true},
		{"/a/b/../..", "", true},
		{"/a/../b", "b", false},
		{"/%61", "a", false},
		{"/a%2Fb", "a/b", false},
		{"/a%2f%2e%2e%2fb", "b", false},
		{"/a%20b", "a b", false},
		{"/%e4%bd%a0", "\xe4\xbd\xa0", false},
		{"/a\\..\\b", "a\\..\\b", false},
		{"/.git/config", ".git/config", false, true},
		{"/a/.b/", "a/.b", true, true},
		{"/a/%2eb", "a/.b", false, true},
		{"/...", "...", false, true},
		{"http://host/a", "a", false},
		{"HTTPS://host:1/a/", "a", true},
		{"http://host", "", true},
		{"/..", NULL, false, false, -EINVAL},
		{"/../etc/passwd", NULL, false, false, -EINVAL},
		{"/a/../../b", NULL, false, false, -EINVAL},
		{"/%2e%2e/b", NULL, false, false, -EINVAL},
		{"/a/%2e%2e%2f..", NULL, false, false, -EINVAL},
		{"/%00", NULL, false, false, -EINVAL},
		{"/a%00b", NULL, false, false, -EINVAL},
		{"/%", NULL, false, false, -EINVAL},
		{"/%4", NULL, false, false, -EINVAL},
		{"/%zz", NULL, false, false, -EINVAL},
		{"/%c0%ae%c0%ae/", "\xc0\xae\xc0\xae", true},
		{"a", NULL, false, false, -EINVAL},
		{"*", NULL, false, false, -EINVAL},
		{"", NULL, false, false, -EINVAL},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct path path;
		int r = path_parse(row[i].target, &path);

		CHECK(r == row[i].error, "%s: %d", row[i].target, r);
		if (r || row[i].error)
			continue;
		CHECK(!strcmp(path.name, row[i].name), "%s: %s", row[i].target, path.name);
		CHECK(path.len == strlen(path.name), "%s", row[i].target);
		CHECK(path.directory == row[i].directory, "%s", row[i].target);
		CHECK(path.hidden == row[i].hidden, "%s", row[i].target);
	}
}

static void test_long(void)
{
	char target[PATH_MAX + 100];
	struct path path;

	memset(target, 'a', sizeof(target));
	target[0] = '/';
	target[sizeof(target) - 1] = '\0';
	CHECK(path_parse(target, &path) == -ENAMETOOLONG, "one segment");
	for (size_t i = 0; i < sizeof(target) - 1; i += 2)
		target[i] = '/';
	CHECK(path_parse(target, &path) == -ENAMETOOLONG, "many segments");
	target[PATH_MAX - 10] = '\0';
	CHECK(path_parse(target, &path) == 0, "just fits");
}

static void test_encode(void)
{
	char buf[64];

	CHECK(path_encode("a b/<\"&'>%\n\xff.txt", buf, sizeof(buf)), "fits");
	CHECK(!strcmp(buf, "a%20b/%3C%22%26%27%3E%25%0A%FF.txt"), "%s", buf);
	CHECK(!path_encode("abcd", buf, 4), "does not fit");
	CHECK(path_encode("", buf, 1) && !*buf, "empty");
	CHECK(!strcmp(path_base("a/b"), "b") && !strcmp(path_base("b"), "b"), "base");
	CHECK(path_parent_len("a/b/c") == 3 && path_parent_len("a") == 0, "parent");
}

static int lines;

static void count(void *data, const char *type, const char *extension)
{
	lines++;
	CHECK(!strcmp(type, "text/plain"), "%s", type);
}

static void test_mime(void)
{
	struct mime *mime = mime_new("/nonexistent");
	char line[] = "text/plain\tasc txt # text\n", comment[] = "# text/plain txt",
	     nonsense[] = "plain txt";

	CHECK(!strcmp(mime_of_name(mime, "a/b.HTML"), "text/html; charset=utf-8"), "html");
	CHECK(!strcmp(mime_of_name(mime, "v.ts"), "video/mp2t"), "ts");
	CHECK(!strcmp(mime_of_name(mime, "a.html/b"), "application/octet-stream"), "dot in folder");
	CHECK(!strcmp(mime_of_name(mime, "README"), "application/octet-stream"), "none");
	mime_free(mime);
	mime_parse_line(line, count, NULL);
	mime_parse_line(comment, count, NULL);
	mime_parse_line(nonsense, count, NULL);
	CHECK(lines == 2, "%d", lines);
}

int main(void)
{
	test_parse();
	test_long();
	test_encode();
	test_mime();
	return check_result();
}

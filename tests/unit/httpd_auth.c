/* SPDX-License-Identifier: MIT */
/* The hashes were made with htpasswd(1) and openssl passwd, all of the password "secret". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "common/log.h"
#include "httpd/apr1.h"
#include "httpd/htpasswd.h"
#include "httpd/options.h"

static const char apr1
	[] = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
    bcrypt[] = "$2y$04$m6mxWQXeCw4eJ3eCue6wqO1AoFTK1XUc1rQJh7pGFZxGgTPxypsZG",
    sha512[] =
	    "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN."
	    "Pq.H91p5hVO1";

static void test_apr1(void)
{
	char out[APR1_SIZE];

	CHECK(apr1_hash("secret", apr1, out) && !strcmp(out, apr1), "%s", out);
	CHECK(apr1_hash("wrong", apr1, out) && strcmp(out, apr1), "%s", out);
	CHECK(!apr1_hash("secret", sha512, out), "not apr1");
	CHECK(apr1_hash("a long password of more than sixteen bytes",
		      "$apr1$xyz$TbS5bqA.R5wXhLvEsXgCG.", out) &&
			!strcmp(out, "$apr1$xyz$TbS5bqA.R5wXhLvEsXgCG."),
		"%s", out);
}

static void test_line(void)
{
	static const struct {
		const char *line;
		int r;
	} row[] = {{"", 0}, {"# a", 0}, {"u:h", 1}, {"u:h:c", 1}, {"u", -EINVAL}, {":h", -EINVAL},
		{"u:", -EINVAL}, {"u::h", -EINVAL}};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		char line[16];
		const char *user, *hash;
		int r;

		snprintf(line, sizeof(line), "%s", row[i].line);
		r = htpasswd_parse_line(line, &user, &hash);
		CHECK(r == row[i].r, "%s: %d", row[i].line, r);
		CHECK(r != 1 || (!strcmp(user, "u") && !strcmp(hash, "h")), "%s", row[i].line);
	}
}

static void test_fast(void)
{
	char longer[66] = {0};

	memset(longer, 'x', sizeof(longer) - 1);
	CHECK(htpasswd_is_fast(apr1, "secret"), "apr1");
	CHECK(!htpasswd_is_fast(apr1, longer), "a long password");
	CHECK(!htpasswd_is_fast(bcrypt, "secret"), "bcrypt");
	CHECK(!htpasswd_is_fast(sha512, "secret"), "sha512");
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "we");

	CHECK(f && fputs(text, f) >= 0 && !fclose(f), "%s", name);
}

static int check(const struct htpasswd *h, const char *user, const char *password)
{
	bool known;
	const char *hash = htpasswd_hash(h, user, &known);

	return htpasswd_fits(hash, password) == 1 && known;
}

static void test_file(const char *name)
{
	struct htpasswd *h = NULL;
	char text[512];

	snprintf(text, sizeof(text), "# users\n\na:%s\nb:%s\nc:%s\r\n", apr1, bcrypt, sha512);
	write_file(name, text);
	CHECK(!htpasswd_load(name, &h), "load");
	if (!h)
		return;
	CHECK(check(h, "a", "secret") == 1, "apr1");
	CHECK(check(h, "b", "secret") == 1, "bcrypt");
	CHECK(check(h, "c", "secret") == 1, "sha512");
	CHECK(!check(h, "c", "Secret"), "wrong");
	CHECK(!check(h, "d", "secret"), "unknown");
	CHECK(!check(h, "", ""), "empty");
	htpasswd_free(h);
	h = NULL;
	write_file(name, "a:plaintext\n");
	CHECK(htpasswd_load(name, &h) == -EINVAL && !h, "plain text is no hash");
	write_file(name, "nonsense\n");
	CHECK(htpasswd_load(name, &h) == -EINVAL && !h, "nonsense");
	CHECK(unlink(name) == 0 && htpasswd_load(name, &h) == -ENOENT, "missing");
}

static void test_options(void)
{
	static const struct {
		const char *argv[6];
		enum options_result result;
	} row[] = {
		{{"p", "dir"}, OPTIONS_RUN},
		{{"p", "-l", "[::1]:0", "dir"}, OPTIONS_RUN},
		{{"p", "--threads=3", "--", "dir"}, OPTIONS_RUN},
		{{"p", "--threads=0", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--threads=-1", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--idle-timeout=1e3", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--log-format=xml", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--cert=a", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--realm=a \"b\"", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--realm=a\nb", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--cors=https://a\r\nb", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "--cors=https://a", "dir"}, OPTIONS_RUN},
		{{"p", "--nonsense", "dir"}, OPTIONS_EXIT_USAGE},
		{{"p", "dir", "--listen"}, OPTIONS_EXIT_USAGE},
		{{"p", "dir", "dir2"}, OPTIONS_EXIT_USAGE},
		{{"p"}, OPTIONS_EXIT_USAGE},
	};
	struct options o;

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		char *argv[7] = {0};
		int argc = 0;

		for (; argc < 6 && row[i].argv[argc]; argc++)
			argv[argc] = (char *)row[i].argv[argc]; /* getopt may only reorder it */
		CHECK(options_parse(argc, argv, &o) == row[i].result, "row %zu", i);
	}
	CHECK(options_parse(2, (char *[]){(char *)"p", (char *)"d", NULL}, &o) == OPTIONS_RUN, "d");
	CHECK(!strcmp(o.root, "d") && o.listen_count == 1 && o.drain_timeout_ms == 10000 &&
			!strcmp(o.index, "index.html") && !o.upload,
		"defaults");
}

int main(void)
{
	char name[] = "/tmp/httpd_auth_XXXXXX";
	int fd = mkstemp(name);

	log_init("httpd_auth", (enum log_level) - 1);
	CHECK(fd >= 0 && !close(fd), "mkstemp");
	test_apr1();
	test_line();
	test_fast();
	test_file(name);
	test_options();
	return check_result();
}

/* SPDX-License-Identifier: MIT */
#include "httpd/httpdate.h"
#include "httpd/prefer.h"
#include "httpd/validator.h"

#include "check.h"

#define NOW     784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define IN_2026 1767225600

static void test_date(void)
{
	static const struct {
		const char *text;
		long when; /* -1: malformed */
		time_t now;
	} row[] = {
		{"Sun, 06 Nov 1994 08:49:37 GMT", NOW},
		{"Sunday, 06-Nov-94 08:49:37 GMT", NOW},
		{"Sun Nov  6 08:49:37 1994", NOW},
		{"Thu, 01 Jan 1970 00:00:00 GMT", 0},
		{"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000},
		{"Thu, 30 Feb 2024 12:00:00 GMT", -1},
		{"Sunday, 06-Nov-94 08:49:37 GMT", NOW, .now = IN_2026},
		{"Wednesday, 01-Jan-76 00:00:00 GMT", 3345062400, .now = IN_2026},
		{"Saturday, 01-Jan-77 00:00:00 GMT", 220924800, .now = IN_2026},
		{"Sun, 06 Nov 1994 24:00:00 GMT", -1},
		{"Sun, 06 Nov 1994 08:49:37 CET", -1},
		{"Sun, 06 Nov 1994 08:49:37 GMTx", -1},
		{"Sun, 6 Nov 1994 08:49:37 GMT", -1},
		{"784111777", -1},
		{"", -1},
	};
	char buf[HTTPDATE_SIZE];

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		time_t when = -1;

		(void)httpdate_parse(row[i].text, row[i].now ? row[i].now : NOW, &when);
		CHECK(when == row[i].when, "%s: %ld", row[i].text, (long)when);
	}
	CHECK(!strcmp(httpdate_format(NOW, buf), row[0].text), "%s", buf);
	CHECK(!strcmp(httpdate_format(0, buf), row[3].text), "%s", buf);
}

static void test_conditions(void)
{
	static const char date[] = "Sun, 06 Nov 1994 08:49:37 GMT",
			  before[] = "Sun, 06 Nov 1994 08:49:36 GMT",
			  after[] = "Sun, 06 Nov 1994 08:49:38 GMT";
	static const struct validator file = {true, NOW, "\"a\""}, weak = {true, NOW, "W/\"a\""},
				      growing = {0};
	static const struct {
		struct conditions c; /* match, none-match, modified, unmodified, range */
		const struct validator *v;
		bool reading;
		enum condition_result result;
		bool range;
	} row[] = {
		{{0}, &file, true, CONDITION_PROCEED, true},
		{{"\"a\""}, &file, true, CONDITION_PROCEED, true},
		{{"\"b\", \"a\""}, &file, true, CONDITION_PROCEED, true},
		{{"*"}, &file, false, CONDITION_PROCEED, true},
		{{"*"}, &growing, false, CONDITION_PROCEED, true},
		{{"\"b\""}, &file, true, CONDITION_FAILED, true},
		{{"W/\"a\""}, &file, true, CONDITION_FAILED, true},
		{{"\"a\""}, &weak, true, CONDITION_FAILED, true},
		{{"\"a\""}, &growing, true, CONDITION_FAILED, true},
		{{"a"}, &file, true, CONDITION_FAILED, true},
		{{NULL, "\"a\""}, &file, true, CONDITION_NOT_MODIFIED, true},
		{{NULL, "W/\"a\""}, &file, true, CONDITION_NOT_MODIFIED, true},
		{{NULL, "\"a\""}, &weak, true, CONDITION_NOT_MODIFIED, true},
		{{NULL, "\"b\",,\"a\""}, &file, true, CONDITION_NOT_MODIFIED, true},
		{{NULL, "*"}, &file, true, CONDITION_NOT_MODIFIED, true},
		{{NULL, "*"}, &file, false, CONDITION_FAILED, true},
		{{NULL, "\"b\""}, &file, true, CONDITION_PROCEED, true},
		{{NULL, "\"a"}, &file, true, CONDITION_PROCEED, true},
		{{NULL, "\"a\""}, &growing, true, CONDITION_PROCEED, true},
		{{NULL, NULL, date}, &file, true, CONDITION_NOT_MODIFIED, true},
		{{NULL, NULL, before}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, date}, &file, false, CONDITION_PROCEED, true},
		{{NULL, NULL, "yesterday"}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, date}, &growing, true, CONDITION_PROCEED, true},
		{{NULL, "\"b\"", date}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, NULL, date}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, NULL, before}, &file, true, CONDITION_FAILED, true},
		{{"\"a\"", NULL, NULL, before}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, NULL, NULL, "\"a\""}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, NULL, NULL, "\"b\""}, &file, true, CONDITION_PROCEED, false},
		{{NULL, NULL, NULL, NULL, "W/\"a\""}, &weak, true, CONDITION_PROCEED, false},
		{{NULL, NULL, NULL, NULL, date}, &file, true, CONDITION_PROCEED, true},
		{{NULL, NULL, NULL, NULL, before}, &file, true, CONDITION_PROCEED, false},
		{{NULL, NULL, NULL, NULL, after}, &file, true, CONDITION_PROCEED, false},
		{{NULL, NULL, NULL, NULL, date}, &weak, true, CONDITION_PROCEED, false},
		{{NULL, NULL, NULL, NULL, "*"}, &file, true, CONDITION_PROCEED, false},
		{{NULL, NULL, NULL, NULL, "\"a\""}, &growing, true, CONDITION_PROCEED, false},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		CHECK(conditions_check(&row[i].c, row[i].v, row[i].reading, NOW + 9) ==
				row[i].result,
			"row %zu", i);
		CHECK(conditions_allow_range(&row[i].c, row[i].v, NOW + 9) == row[i].range,
			"row %zu", i);
	}
}

static void test_etag(void)
{
	struct stat st = {.st_ino = 1, .st_size = 2, .st_mtim = {NOW, 0}, .st_ctim = {NOW, 5}};
	struct timespec soon = {NOW, 1000000}, later = {NOW + 1, 0}, much_later = {NOW + 2, 0};
	struct validator a, b;

	validator_of_stat(&st, &soon, &a);
	validator_of_stat(&st, &later, &b);
	CHECK(a.etag[0] == 'W' && b.etag[0] == '"', "%s %s", a.etag, b.etag);
	CHECK(conditions_check(&(struct conditions){.if_none_match = a.etag}, &b, true, NOW) ==
			CONDITION_PROCEED,
		"%s %s", a.etag, b.etag);
	st.st_ctim.tv_nsec++;
	validator_of_stat(&st, &later, &a);
	CHECK(strcmp(a.etag, b.etag), "%s", a.etag);
	st.st_ctim.tv_nsec = 0;
	validator_of_stat(&st, &later, &a);
	CHECK(a.etag[0] == 'W', "%s", a.etag);
	validator_of_stat(&st, &much_later, &a);
	CHECK(a.etag[0] == '"', "%s", a.etag);
	st.st_mtim.tv_sec = NOW + 100;
	validator_of_stat(&st, &later, &a);
	CHECK(a.modified == NOW + 1, "%ld", (long)a.modified);
}

static void test_prefer(void)
{
	static const struct {
		const char *text;
		long wait; /* -1: none */
	} row[] = {
		{"wait=10", 10},
		{"respond-async, wait=100", 100},
		{"WAIT = 3", 3},
		{"wait=\"5\"", 5},
		{"wait=5; x=y", 5},
		{"wait=5,wait=6", 5},
		{"foo=\"a,wait=9\", wait=1", 1},
		{"wait=99999999999999999999", 86400},
		{"wait", -1},
		{"wait=", -1},
		{"wait=x", -1},
		{"wait=1x", -1},
		{"waiting=1", -1},
		{"wait=-1", -1},
		{"", -1},
		{",,,", -1},
		{"foo=\"wait=1", -1},
		{"foo=\"a\\\",wait=9\", wait=1", 1},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		uint64_t s = 0;
		bool ok = prefer_wait(row[i].text, &s);

		CHECK((ok ? (long)s : -1) == row[i].wait, "%s: %d %ld", row[i].text, ok, (long)s);
	}
}

int main(void)
{
	test_date();
	test_conditions();
	test_etag();
	test_prefer();
	return check_result();
}

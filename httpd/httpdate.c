/* SPDX-License-Identifier: MIT */
#include "httpd/httpdate.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const long_days[] = {
	"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const months[] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

const char *httpdate_format(time_t when, char buf[static HTTPDATE_SIZE])
{
	struct tm tm;
	char text[64];

	buf[0] = '\0';
	if (!gmtime_r(&when, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		return buf;
	snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
		tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	memcpy(buf, text, HTTPDATE_SIZE - 1);
	buf[HTTPDATE_SIZE - 1] = '\0';
	return buf;
}

static bool literal(const char **p, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*p, text, n))
		return false;
	*p += n;
	return true;
}

static bool one_of(const char **p, const char *const *names, int count, int *ret)
{
	for (int i = 0; i < count; i++) {
		if (literal(p, names[i])) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static bool number(const char **p, int width, int *ret)
{
	int value = 0;

	for (int i = 0; i < width; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		value = value * 10 + (**p - '0');
	}
	*ret = value;
	return true;
}

static bool clock_time(const char **p, struct tm *tm)
{
	return number(p, 2, &tm->tm_hour) && literal(p, ":") && number(p, 2, &tm->tm_min) &&
	       literal(p, ":") && number(p, 2, &tm->tm_sec);
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static bool imf_fixdate(const char *p, struct tm *tm)
{
	bool ok = one_of(&p, days, 7, &tm->tm_wday) && literal(&p, ", ") &&
		  number(&p, 2, &tm->tm_mday) && literal(&p, " ") &&
		  one_of(&p, months, 12, &tm->tm_mon) && literal(&p, " ") &&
		  number(&p, 4, &tm->tm_year) && literal(&p, " ") && clock_time(&p, tm) &&
		  literal(&p, " GMT") && !*p;

	tm->tm_year -= 1900;
	return ok;
}

/* Sunday, 06-Nov-94 08:49:37 GMT. A year that seems more than 50 years ahead is in the past. */
static bool rfc850_date(const char *p, time_t now, struct tm *tm)
{
	bool ok = one_of(&p, long_days, 7, &tm->tm_wday) && literal(&p, ", ") &&
		  number(&p, 2, &tm->tm_mday) && literal(&p, "-") &&
		  one_of(&p, months, 12, &tm->tm_mon) && literal(&p, "-") &&
		  number(&p, 2, &tm->tm_year) && literal(&p, " ") && clock_time(&p, tm) &&
		  literal(&p, " GMT") && !*p;
	struct tm today;

	if (!ok || !gmtime_r(&now, &today))
		return false;
	tm->tm_year += today.tm_year - (today.tm_year % 100);
	if (tm->tm_year > today.tm_year + 50)
		tm->tm_year -= 100;
	return true;
}

/* Sun Nov  6 08:49:37 1994 */
static bool asctime_date(const char *p, struct tm *tm)
{
	bool ok = one_of(&p, days, 7, &tm->tm_wday) && literal(&p, " ") &&
		  one_of(&p, months, 12, &tm->tm_mon) && literal(&p, " ") &&
		  (*p == ' ' ? (p++, number(&p, 1, &tm->tm_mday)) : number(&p, 2, &tm->tm_mday)) &&
		  literal(&p, " ") && clock_time(&p, tm) && literal(&p, " ") &&
		  number(&p, 4, &tm->tm_year) && !*p;

	tm->tm_year -= 1900;
	return ok;
}

static bool fields_are_valid(const struct tm *tm)
{
	return tm->tm_mday >= 1 && tm->tm_mday <= 31 && tm->tm_hour <= 23 && tm->tm_min <= 59 &&
	       tm->tm_sec <= 60;
}

int httpdate_parse(const char *text, time_t now, time_t *ret)
{
	struct tm tm = {0};
	int day;

	if (!imf_fixdate(text, &tm) && !rfc850_date(text, now, &tm) && !asctime_date(text, &tm))
		return -EINVAL;
	if (!fields_are_valid(&tm))
		return -EINVAL;
	day = tm.tm_mday;
	time_t when = timegm(&tm);
	if (tm.tm_mday != day && tm.tm_sec != 60) /* 31 Feb */
		return -EINVAL;
	*ret = when;
	return 0;
}

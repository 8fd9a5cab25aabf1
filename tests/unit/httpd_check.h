/* SPDX-License-Identifier: MIT */
/* CHECK() for the C table tests of httpd: counts failures, says where; check_result() is what
 * main() returns. */
#ifndef TESTS_HTTPD_CHECK_H
#define TESTS_HTTPD_CHECK_H

#include <stdio.h>
#include <string.h>

static int check_failures;

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			check_failures++;                                                          \
			printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                     \
			printf(__VA_ARGS__);                                                       \
			putchar('\n');                                                             \
		}                                                                                  \
	} while (0)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline int check_result(void)
{
	return check_failures ? 1 : 0;
}

#endif

/* SPDX-License-Identifier: MIT */
/* For table tests in C: CHECK() counts failures and says where; main() returns check_result(). */
#ifndef TESTS_UNIT_CHECK_H
#define TESTS_UNIT_CHECK_H

#include <stdio.h>
#include <string.h>

static unsigned long checks, check_failures;

/* A failure prints the condition and the printf arguments, which say what was being checked. */
#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		checks++;                                                                          \
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
	printf("%lu checks, %lu failed\n", checks, check_failures);
	return check_failures ? 1 : 0;
}

/* Numbers that are the same in every run (xorshift64*). */
static inline unsigned long long check_random(unsigned long long *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1DULL;
}

#endif

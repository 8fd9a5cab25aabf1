// SPDX-License-Identifier: MIT
// To be preloaded: strdup(3) fails while the file NO_MEMORY exists.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *strdup(const char *s)
{
	size_t size = strlen(s) + 1;
	char *copy;
	if (access(getenv("NO_MEMORY"), F_OK) == 0) {
		errno = ENOMEM;
		return NULL;
	}
	copy = malloc(size);
	return copy ? memcpy(copy, s, size) : NULL;
}

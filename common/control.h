/* SPDX-License-Identifier: MIT */
/* Control characters, which would act on a terminal: of a file's name, say. */
#ifndef COMMON_CONTROL_H
#define COMMON_CONTROL_H

#include <stddef.h>

/* How many bytes of text, which is not at its end, are one; 0: it does not begin with one. In UTF-8
 * U+0080 to U+009F (ISO 6429's C1) are C2 80 to C2 9F. */
static inline size_t control_length(const char *text)
{
	unsigned char first = (unsigned char)text[0], second = (unsigned char)text[1];

	if (first < 0x20 || first == 0x7f)
		return 1;
	return first == 0xc2 && (second & 0xe0) == 0x80 ? 2 : 0;
}

#endif

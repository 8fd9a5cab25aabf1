/* SPDX-License-Identifier: MIT */
/*
 * What getopt_long() has just answered '?' to, as a person would find it on the command line: of
 * letters given together ("-xf") the one that is meant, else the whole word. letters: its short
 * options.
 */
#ifndef COMMON_REFUSED_H
#define COMMON_REFUSED_H

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define REFUSED_SIZE 3

static inline const char *refused_option(
	char *const *argv, const char *letters, char letter[REFUSED_SIZE])
{
	/* 0: an unknown word; a known one: a word that takes no value was given one */
	if (optopt <= 0 || optopt > 255 || strchr(letters, optopt))
		return argv[optind - 1];
	snprintf(letter, REFUSED_SIZE, "-%c", optopt);
	return letter;
}

#endif

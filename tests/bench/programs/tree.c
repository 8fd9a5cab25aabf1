/* SPDX-License-Identifier: MIT */
/* tree DIR DIRECTORIES FILES: makes DIRECTORIES directories with FILES empty files each. */
#include "bench.h"

#include <sys/stat.h>

int main(int argc, char **argv)
{
	unsigned long n_dirs, n_files;
	char name[4096];

	errno = EINVAL;
	if (argc != 4)
		die("tree: 3 arguments");
	die_with_parent();
	n_dirs = number(argv[2]);
	n_files = number(argv[3]);
	for (unsigned long d = 0; d < n_dirs; d++) {
		snprintf(name, sizeof(name), "%s/dir-%04lu", argv[1], d);
		if (mkdir(name, 0755) < 0 || chdir(name) < 0)
			die("%s", name);
		for (unsigned long f = 0; f < n_files; f++) {
			snprintf(name, sizeof(name), "file-%04lu.dat", f);
			if (mknod(name, S_IFREG | 0644, 0) < 0)
				die("%s", name);
		}
	}
	return 0;
}

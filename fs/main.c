/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "common/output.h"
#include "fs/daemon.h"
#include "fs/fs.h"
#include "fs/store.h"

int main(int argc, char **argv)
{
	static struct fs fs = {.ready_fd = -1, .store_fd = -1};
	int r;

	daemon_fill_streams();
	log_init("rwwfs", LOG_NOTE);
	r = options_parse(&fs.opt, argc, argv);
	if (r == 0 && (fs.opt.help || fs.opt.version || fs.opt.fake)) {
		if (fs.opt.help)
			options_help(stdout);
		else if (fs.opt.version)
			printf("rwwfs %s, libfuse %s\n", RWWFS_VERSION, fuse_pkgversion());
		options_done(&fs.opt);
		return output_arrived() ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	if (r == 0 && fs.opt.debug)
		log_set_level(LOG_TRACE);
	if (r == 0)
		r = store_open(&fs.opt, &fs.store_fd);
	if (r == 0 && !fs.opt.foreground)
		r = daemon_start(&fs.ready_fd);
	if (r == 0)
		r = fs_run(&fs);
	if (fs.store_fd >= 0)
		(void)close(fs.store_fd); /* a directory */
	options_done(&fs.opt);
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

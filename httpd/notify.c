/* SPDX-License-Identifier: MIT */
#include "httpd/notify.h"

#include <systemd/sd-daemon.h>

void notify(const char *state)
{
	(void)sd_notify(0, state); /* nobody listens: nothing to say */
}

int notify_sockets(int *ret_first)
{
	*ret_first = SD_LISTEN_FDS_START;
	return sd_listen_fds(1);
}

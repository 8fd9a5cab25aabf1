/* SPDX-License-Identifier: MIT */
#include "httpd/notify.h"

void notify(const char *state)
{
	(void)state;
}

int notify_sockets(int *ret_first)
{
	*ret_first = -1;
	return 0;
}

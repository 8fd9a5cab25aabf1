/* SPDX-License-Identifier: MIT */
#include "httpd/bypass.h"

#include <microhttpd.h>
#include <sys/socket.h>
#include <time.h>

#include "httpd/client.h"
#include "httpd/httpdate.h"
#include "httpd/server.h"
#include "httpd/text.h"

static void put_head(struct text *t, const char *origin, unsigned status)
{
	char date[HTTPDATE_SIZE];

	text_printf(t, "HTTP/1.1 %u %s\r\nDate: %s\r\nServer: rww-httpd/" RWWFS_VERSION "\r\n",
		status, MHD_get_reason_phrase_for(status), httpdate_format(time(NULL), date));
	if (origin)
		text_printf(t, "Access-Control-Allow-Origin: %s\r\n", origin);
	text_put(t, "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
		    "Connection: close\r\n");
}

static bool send_all(const struct client *client, const struct text *t)
{
	if (client->encrypted)
		return tls_send(&client->tls, t->data, t->len);
	return send(client->socket, t->data, t->len, MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       (ssize_t)t->len;
}

ssize_t bypass_send(const struct server *s, const struct client *client, unsigned status, bool head)
{
	struct text t = {0}, body = {0};
	ssize_t sent = -1;

	text_printf(&body, "%u %s\n", status, MHD_get_reason_phrase_for(status));
	put_head(&t, s->options->cors, status);
	text_printf(&t, "Content-Length: %zu\r\n\r\n%s", body.len,
		head || body.failed ? "" : body.data);
	if (!t.failed && !body.failed && send_all(client, &t))
		sent = (ssize_t)body.len;
	text_free(&body);
	text_free(&t);
	return sent;
}

/* SPDX-License-Identifier: MIT */
#include "httpd/push.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 262144
#define TURN  4 /* pieces before others have theirs */

static void begin_piece(struct push *p, size_t size, bool chunked)
{
	p->data_left = size;
	if (!chunked)
		return;
	p->frame_left = (size_t)snprintf(p->frame, sizeof(p->frame), "%zx\r\n", size);
	p->end_left = 2;
}

static size_t take(size_t *left, size_t *sent)
{
	size_t n = *sent < *left ? *sent : *left;

	*left -= n;
	*sent -= n;
	return n;
}

/* What is pending, with its data. */
static ssize_t send_piece(const struct push *p, int socket, const char *data)
{
	struct iovec parts[] = {
		{(char *)p->frame + strlen(p->frame) - p->frame_left, p->frame_left},
		{(char *)data, p->data_left},
		{(char *)"\r\n" + 2 - p->end_left, p->end_left},
	};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static enum push_result push_pending(struct push *p, int socket, const char *data, uint64_t *offset)
{
	ssize_t n = send_piece(p, socket, data);
	size_t sent = n < 0 ? 0 : (size_t)n;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? PUSH_LATER : PUSH_GONE;
	(void)take(&p->frame_left, &sent);
	*offset += take(&p->data_left, &sent);
	(void)take(&p->end_left, &sent);
	return push_is_pending(p) ? PUSH_LATER : PUSH_DONE;
}

enum push_result push_data(
	struct push *p, int socket, const char *data, size_t size, uint64_t *offset, bool chunked)
{
	begin_piece(p, size, chunked);
	return push_pending(p, socket, data, offset);
}

static enum push_result push_piece(struct push *p, int socket, int file, uint64_t *offset)
{
	static _Thread_local char data[PIECE];
	ssize_t n = p->data_left ? pread(file, data, p->data_left, (off_t)*offset) : 0;

	return n == (ssize_t)p->data_left ? push_pending(p, socket, data, offset) : PUSH_SHORT;
}

enum push_result push_bytes(
	struct push *p, int socket, int file, uint64_t *offset, uint64_t end, bool chunked)
{
	for (int i = 0; i < TURN; i++) {
		enum push_result result;

		if (!push_is_pending(p) && *offset == end)
			return PUSH_DONE;
		if (!push_is_pending(p))
			begin_piece(p, end - *offset < PIECE ? (size_t)(end - *offset) : PIECE,
				chunked);
		result = push_piece(p, socket, file, offset);
		if (result != PUSH_DONE)
			return result;
	}
	return PUSH_LATER;
}

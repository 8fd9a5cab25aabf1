/* SPDX-License-Identifier: MIT */
#include "httpd/push.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "httpd/clock.h"

#define TURN      4 /* pieces before others have theirs */
#define TURN_MS   3
#define SEND_SIZE ((uint64_t)2 << 20)

static size_t chunk_frame(char frame[static PUSH_FRAME_SIZE], size_t size)
{
	return (size_t)snprintf(frame, PUSH_FRAME_SIZE, "%zx\r\n", size);
}

static void begin_piece(struct push *p, size_t size, bool chunked)
{
	p->data_left = size;
	if (!chunked)
		return;
	p->frame_left = chunk_frame(p->frame, size);
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

/* n: what send(2) returned. */
static enum push_result count_sent(struct push *p, ssize_t n, uint64_t *offset)
{
	size_t sent = n < 0 ? 0 : (size_t)n;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? PUSH_LATER : PUSH_GONE;
	(void)take(&p->frame_left, &sent);
	*offset += take(&p->data_left, &sent);
	(void)take(&p->end_left, &sent);
	return push_is_pending(p) ? PUSH_LATER : PUSH_DONE;
}

void push_piece_set(struct push_piece *piece, size_t size)
{
	char frame[PUSH_FRAME_SIZE];

	piece->size = size;
	piece->frame = chunk_frame(frame, size);
	memcpy(push_piece_data(piece) - piece->frame, frame, piece->frame);
	memcpy(push_piece_data(piece) + size, "\r\n", 2);
}

enum push_result push_piece(
	struct push *p, int socket, const struct push_piece *piece, uint64_t *offset, bool chunked)
{
	size_t before = chunked ? piece->frame : 0, after = chunked ? 2 : 0;
	size_t all = before + piece->size + after;
	ssize_t n = send(
		socket, piece->room + PUSH_FRAME_SIZE - before, all, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n == (ssize_t)all) {
		*offset += piece->size;
		return PUSH_DONE;
	}
	begin_piece(p, piece->size, chunked);
	return count_sent(p, n, offset);
}

static enum push_result push_next(
	struct push *p, int socket, const struct push_source *from, uint64_t *offset)
{
	struct recent_piece *piece = NULL;
	const char *data = "";
	enum push_result result = PUSH_SHORT;

	if (p->data_left)
		data = recent_read(
			from->recent, from->file, from->version, *offset, p->data_left, &piece);
	if (data)
		result = count_sent(p, send_piece(p, socket, data), offset);
	recent_done(piece);
	return result;
}

enum push_result push_bytes(struct push *p, int socket, const struct push_source *from,
	uint64_t *offset, uint64_t end, bool chunked)
{
	for (int i = 0; i < TURN; i++) {
		uint64_t left = end - *offset, most = RECENT_SIZE - *offset % RECENT_SIZE;
		enum push_result result;

		if (!push_is_pending(p) && !left)
			return PUSH_DONE;
		if (!push_is_pending(p))
			begin_piece(p, (size_t)(left < most ? left : most), chunked);
		result = push_next(p, socket, from, offset);
		if (result != PUSH_DONE)
			return result;
	}
	return PUSH_LATER;
}

/* What sendfile(2) may say of its socket rather than of the file. */
static bool is_of_the_client(int error)
{
	return error == EPIPE || error == ECONNRESET || error == ETIMEDOUT ||
	       error == EHOSTUNREACH || error == ENETUNREACH;
}

/* One piece when it has to come from a disk, as many as TURN_MS is enough for otherwise. */
enum push_result push_file(int socket, int file, uint64_t *offset, uint64_t end)
{
	uint64_t began = clock_ms();
	off_t at = (off_t)*offset;
	size_t size;
	ssize_t n;

	do {
		size = end - *offset < SEND_SIZE ? (size_t)(end - *offset) : SEND_SIZE;
		if (!size)
			return PUSH_DONE;
		n = sendfile(socket, file, &at, size);
		if (n > 0)
			*offset = (uint64_t)at;
	} while (n == (ssize_t)size && clock_ms() - began < TURN_MS);
	if (n > 0)
		return *offset == end ? PUSH_DONE : PUSH_LATER;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return PUSH_LATER;
	return n < 0 && is_of_the_client(errno) ? PUSH_GONE : PUSH_SHORT;
}

/* SPDX-License-Identifier: MIT */
/*
 * Sends bytes of a file past the library: many of them in pieces much larger than a connection's
 * buffer, without a copy into it, and few to a connection that is held, without running it. Only
 * from a content reader, or while the reader holds the connection; with the header sent and no TLS.
 * The pieces are chunks (RFC 9112 section 7.1) unless the body is delimited by the end of the
 * connection. The library may send again once nothing is pending.
 */
#ifndef HTTPD_PUSH_H
#define HTTPD_PUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "httpd/recent.h"

#define PUSH_FRAME_SIZE 16
#define PUSH_PIECE_SIZE 16384

struct push {
	char frame[PUSH_FRAME_SIZE];            /* what stands before the data of a chunk */
	size_t frame_left, data_left, end_left; /* of the piece that is on its way */
};

enum push_result {
	PUSH_DONE,  /* up to end */
	PUSH_LATER, /* the socket takes no more for now, or it is the turn of others */
	PUSH_GONE,  /* nobody receives */
	PUSH_SHORT, /* the file ends before end, or cannot be read */
};

static inline bool push_is_pending(const struct push *p)
{
	return p->frame_left || p->data_left || p->end_left;
}

struct push_source {
	struct recent *recent;
	int file;
	uint64_t version; /* of struct live_view */
};

/* From *offset, which moves on, to end. */
enum push_result push_bytes(struct push *p, int socket, const struct push_source *from,
	uint64_t *offset, uint64_t end, bool chunked);

/* The same from a file that does not grow, as it is: by sendfile(2). */
enum push_result push_file(int socket, int file, uint64_t *offset, uint64_t end);

/* Bytes that are the same for many, and around them what makes a chunk of them. */
struct push_piece {
	char room[PUSH_FRAME_SIZE + PUSH_PIECE_SIZE + 2];
	size_t frame, size; /* before the data; of the data */
};

static inline char *push_piece_data(struct push_piece *piece)
{
	return piece->room + PUSH_FRAME_SIZE;
}

/* So many bytes have been put there. */
void push_piece_set(struct push_piece *piece, size_t size);

/* Nothing is pending; the piece, at *offset, is the next. */
enum push_result push_piece(
	struct push *p, int socket, const struct push_piece *piece, uint64_t *offset, bool chunked);

#endif

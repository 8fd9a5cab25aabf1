/* SPDX-License-Identifier: MIT */
#include "fs/rule.h"

#include <errno.h>

static struct rule_verdict serve(size_t n)
{
	return (struct rule_verdict){.answer = RULE_SERVE, .serve = n};
}

static struct rule_verdict fail(int error)
{
	return (struct rule_verdict){.answer = RULE_FAIL, .error = error};
}

static const struct rule_verdict hold = {.answer = RULE_HOLD};
static const struct rule_verdict end = {.answer = RULE_END};

/*
 * The kernel keeps what fills a page, and takes what lies behind i_size for the end, without
 * asking. It also locks the page until it has an answer, and stat(2) and open(2) of others wait for
 * that lock, unkillably, when they find that the file has changed. So pages are given out at once,
 * and only those of a complete file. Others are refused with EINVAL, upon which callers of
 * sendfile(2) fall back to read(2). So they are once the file was cut below what the handle has
 * read: where its reader is now, a page does not tell.
 */
static struct rule_verdict rule_page(const struct rule_input *in)
{
	if (in->state != FILE_COMPLETE || in->cut != RULE_NONE)
		return fail(EINVAL);
	return in->available ? serve(in->available) : end;
}

size_t rule_needed(uint64_t declared, uint64_t offset, size_t want)
{
	if (declared == RULE_NONE || offset >= declared)
		return 1;
	return want < declared - offset ? want : (size_t)(declared - offset);
}

struct rule_verdict rule_read(const struct rule_input *in)
{
	if (in->page)
		return rule_page(in);
	if (in->cut != RULE_NONE && in->offset > in->cut)
		return fail(EIO);
	if (in->available &&
		(in->state != FILE_GROWING ||
			in->available >= rule_needed(in->declared, in->offset, in->want)))
		return serve(in->available);
	switch (in->state) {
	case FILE_ABORTED:
		return fail(EIO);
	case FILE_GROWING:
		return in->nonblock ? fail(EAGAIN) : hold;
	case FILE_COMPLETE:
		break;
	}
	return end;
}

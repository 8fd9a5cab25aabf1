/* SPDX-License-Identifier: MIT */
/*
 * The rule against two statements of its own: rows written by hand, and every combination of a
 * small file's shape with every kind of read. The second keeps the file as a row of bytes, each
 * written or not, finds by looking at them where the read begins, and takes what must come of it
 * from two tables, which are section 3 of the contract.
 */
#include <errno.h>

#include "fs/rule.h"
#include "tests/unit/check.h"

/* --- by hand -------------------------------------------------------------------------------- */

#define G FILE_GROWING
#define C FILE_COMPLETE
#define A FILE_ABORTED
#define N RULE_NONE

static const struct row {
	const char *what;
	struct rule_input in;
	enum rule_answer answer;
	size_t serve;
	int error;
} rows[] = {
	/* {state, offset, want, available, declared, cut, nonblock, page} */
	{"growing, all there", {G, 0, 100, 100, N, N}, RULE_SERVE, 100, 0},
	{"growing, never waits to fill a buffer", {G, 0, 4096, 1, N, N}, RULE_SERVE, 1, 0},
	{"growing, at the edge", {G, 100, 4096, 0, N, N}, RULE_HOLD, 0, 0},
	{"growing, far behind the edge", {G, 1ULL << 62, 1, 0, N, N}, RULE_HOLD, 0, 0},
	{"growing and empty", {G, 0, 1, 0, N, N}, RULE_HOLD, 0, 0},
	{"growing, O_NONBLOCK, below the edge", {G, 0, 10, 5, N, N, true}, RULE_SERVE, 5, 0},
	{"growing, O_NONBLOCK, at the edge", {G, 5, 10, 0, N, N, true}, RULE_FAIL, 0, EAGAIN},
	{"complete", {C, 0, 10, 10, N, N}, RULE_SERVE, 10, 0},
	{"complete, the last bytes", {C, 90, 100, 10, N, N}, RULE_SERVE, 10, 0},
	{"complete, at the end", {C, 100, 10, 0, N, N}, RULE_END, 0, 0},
	{"complete, O_NONBLOCK, at the end", {C, 100, 10, 0, N, N, true}, RULE_END, 0, 0},
	{"aborted, its bytes", {A, 0, 10, 10, N, N}, RULE_SERVE, 10, 0},
	{"aborted, its last bytes", {A, 0, 10, 3, N, N}, RULE_SERVE, 3, 0},
	{"aborted, at the end", {A, 10, 10, 0, N, N}, RULE_FAIL, 0, EIO},
	{"aborted, O_NONBLOCK, at the end", {A, 10, 10, 0, N, N, true}, RULE_FAIL, 0, EIO},
	{"declared, below the edge", {G, 0, 10, 10, 1000, N}, RULE_SERVE, 10, 0},
	{"declared, never short", {G, 0, 10, 4, 1000, N}, RULE_HOLD, 0, 0},
	{"declared, never short, O_NONBLOCK set later", {G, 0, 10, 4, 1000, N, true}, RULE_FAIL, 0,
		EAGAIN},
	{"declared, up to the promised end", {G, 990, 100, 10, 1000, N}, RULE_SERVE, 10, 0},
	{"declared, beyond it", {G, 1000, 100, 3, 1000, N}, RULE_SERVE, 3, 0},
	{"declared, aborted, what there is", {A, 0, 10, 4, 1000, N}, RULE_SERVE, 4, 0},
	{"declared, between edge and end", {G, 500, 10, 0, 1000, N}, RULE_HOLD, 0, 0},
	{"declared, aborted", {A, 500, 10, 0, 1000, N}, RULE_FAIL, 0, EIO},

	{"cut below the reader", {G, 100, 10, 10, N, 50}, RULE_FAIL, 0, EIO},
	{"cut below the reader, nothing there", {G, 100, 10, 0, N, 50}, RULE_FAIL, 0, EIO},
	{"cut below the reader, complete", {C, 100, 10, 10, N, 50}, RULE_FAIL, 0, EIO},
	{"cut below the reader, O_NONBLOCK", {G, 100, 10, 0, N, 50, true}, RULE_FAIL, 0, EIO},
	{"cut to nothing", {G, 1, 10, 9, N, 0}, RULE_FAIL, 0, EIO},
	{"cut, the reader went back to the cut", {G, 50, 10, 0, N, 50}, RULE_HOLD, 0, 0},
	{"cut, the reader starts over", {G, 0, 10, 10, N, 50}, RULE_SERVE, 10, 0},

	{"page, growing and whole", {G, 0, 4096, 4096, N, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, growing, in part", {G, 0, 4096, 104, N, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, growing, at the edge", {G, 4096, 4096, 0, N, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, declared, whole", {G, 0, 4096, 4096, 9000, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, declared, in part", {G, 0, 4096, 95, 9000, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, aborted, declared", {A, 0, 4096, 4096, 9000, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, aborted, undeclared", {A, 0, 4096, 4096, N, N, false, true}, RULE_FAIL, 0, EINVAL},
	{"page, complete", {C, 0, 4096, 4096, N, N, false, true}, RULE_SERVE, 4096, 0},
	{"page, complete, the last one", {C, 8192, 4096, 808, N, N, false, true}, RULE_SERVE, 808,
		0},
	{"page, complete, behind the end", {C, 12288, 4096, 0, N, N, false, true}, RULE_END, 0, 0},
	{"page, complete, cut behind it", {C, 0, 4096, 4096, N, 50, false, true}, RULE_FAIL, 0,
		EINVAL},
	{"page, complete, cut before it", {C, 4096, 4096, 9, N, 50, false, true}, RULE_FAIL, 0,
		EINVAL},
};

static void test_rows(void)
{
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		const struct row *r = &rows[i];
		struct rule_verdict v = rule_read(&r->in);

		CHECK(v.answer == r->answer, "%s: answer %d, expected %d", r->what, v.answer,
			r->answer);
		if (v.answer == RULE_SERVE)
			CHECK(v.serve == r->serve, "%s: serves %zu", r->what, v.serve);
		if (v.answer == RULE_FAIL)
			CHECK(v.error == r->error, "%s: %s", r->what, strerror(v.error));
	}
}

/* --- every combination ---------------------------------------------------------------------- */

#define BYTES 6 /* the largest file */

struct shape {
	unsigned written; /* bit n: byte n was written */
	unsigned size;
	unsigned cut;      /* BYTES + 2: not cut */
	unsigned declared; /* 0: no */
	enum file_state state;
};

/* Where a read begins. */
enum place { WRITTEN, HOLE, EDGE, BEYOND };

static const char *const states[] = {
	[FILE_COMPLETE] = "complete", [FILE_GROWING] = "growing", [FILE_ABORTED] = "aborted"};

/* s: serve, h: hold (O_NONBLOCK: EAGAIN), e: end of file, x: EIO, v: EINVAL. */
static const char read_table[3][5] = {
	/*                  WRITTEN, HOLE, EDGE, BEYOND */
	[FILE_GROWING] = "shhh",
	[FILE_COMPLETE] = "ssee", /* a hole of a finished file is zeros */
	[FILE_ABORTED] = "sxxx",
};

/* For the page cache: never to be waited for. */
static const char page_table[3][5] = {
	[FILE_GROWING] = "vvvv",
	[FILE_COMPLETE] = "ssee",
	[FILE_ABORTED] = "vvvv",
};

static bool is_there(const struct shape *s, unsigned byte)
{
	if (byte >= s->size)
		return false;
	return s->state == FILE_COMPLETE || (s->written >> byte & 1);
}

static enum place place_of(const struct shape *s, unsigned offset)
{
	if (offset > s->size)
		return BEYOND;
	if (offset == s->size)
		return EDGE;
	return s->written >> offset & 1 ? WRITTEN : HOLE;
}

static char expected(const struct shape *s, const struct rule_input *in, enum place place)
{
	char letter;

	if (s->cut <= BYTES && in->page)
		return 'v';
	if (s->cut <= BYTES && in->offset > s->cut)
		return 'x';
	letter = in->page ? page_table[s->state][place] : read_table[s->state][place];
	/* A promised size is kept by every read(2) below it, to the last byte asked for. */
	if (!in->page && letter == 's' && s->state == FILE_GROWING && s->declared > in->offset &&
		in->available < in->want && in->offset + in->available < s->declared)
		letter = 'h';
	if (letter == 'h' && in->nonblock)
		letter = 'a';
	return letter;
}

static char told(const struct rule_verdict *v)
{
	switch (v->answer) {
	case RULE_SERVE:
		return 's';
	case RULE_HOLD:
		return 'h';
	case RULE_END:
		return 'e';
	case RULE_FAIL:
		break;
	}
	return v->error == EIO ? 'x' : v->error == EINVAL ? 'v' : v->error == EAGAIN ? 'a' : '?';
}

static void one_read(const struct shape *s, unsigned offset, unsigned want, unsigned how)
{
	enum place place = place_of(s, offset);
	struct rule_input in = {
		.state = s->state,
		.offset = offset,
		.want = want,
		.declared = s->declared ? s->declared : RULE_NONE,
		.cut = s->cut <= BYTES ? s->cut : RULE_NONE,
		.nonblock = how & 1,
		.page = how & 2,
	};
	struct rule_verdict v;
	char letter;

	while (in.available < want && is_there(s, offset + (unsigned)in.available))
		in.available++;
	letter = expected(s, &in, place);
	v = rule_read(&in);
	CHECK(told(&v) == letter,
		"%s, size %u, written 0x%x, declared %u, cut %u; %s of %u at %u%s: %c, "
		"expected %c",
		states[s->state], s->size, s->written, s->declared, s->cut,
		in.page ? "page" : "read", want, offset, in.nonblock ? ", O_NONBLOCK" : "",
		told(&v), letter);
	if (v.answer == RULE_SERVE)
		CHECK(v.serve == in.available && v.serve > 0, "serves %zu of %zu", v.serve,
			in.available);
}

static void every_read(const struct shape *s)
{
	static const unsigned wants[] = {1, 3, BYTES + 2};

	for (unsigned offset = 0; offset <= s->size + 2; offset++)
		for (size_t w = 0; w < COUNT_OF(wants); w++)
			for (unsigned how = 0; how < 4; how++)
				one_read(s, offset, wants[w], how);
}

static void test_combinations(void)
{
	static const unsigned cuts[] = {0, 2, BYTES, BYTES + 2};
	struct shape s;

	for (s.size = 0; s.size <= BYTES; s.size++)
		for (s.written = 0; s.written < 1u << s.size; s.written++)
			for (unsigned state = 0; state < 3; state++)
				for (size_t cut = 0; cut < COUNT_OF(cuts); cut++)
					for (unsigned declared = 0; declared < 2; declared++) {
						s.state = (enum file_state)state;
						s.cut = cuts[cut];
						/* A complete file has all that was declared. */
						s.declared = declared ? s.size + 2 : 0;
						if (declared && s.state == FILE_COMPLETE)
							s.declared = s.size;
						every_read(&s);
					}
}

int main(void)
{
	test_rows();
	test_combinations();
	return check_result();
}

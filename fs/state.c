/* SPDX-License-Identifier: MIT */
#include "fs/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/parse.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/reply.h"

#define PREFIX "user.rww."

bool state_is_ours(const char *name)
{
	return !strncmp(name, PREFIX, strlen(PREFIX));
}

const char *state_name(enum file_state state)
{
	static const char *const names[] = {"complete", "growing", "aborted"};

	return names[state];
}

int state_edge(struct fs *fs, struct file *f, uint64_t size, uint64_t *ret)
{
	uint64_t edge = 0;

	while (f && file_is_growing(fs, f) && f->fd_read >= 0 && edge < size) {
		uint64_t rest = size - edge;
		ssize_t n = holes_available(fs, f, edge, rest > INT32_MAX ? INT32_MAX : rest);

		if (n < 0)
			return (int)n;
		if (n == 0) {
			*ret = edge;
			return 0;
		}
		edge += (uint64_t)n;
	}
	*ret = size;
	return 0;
}

/* What the attributes tell, taken at one moment. */
struct snapshot {
	enum file_state state;
	uint64_t size, declared;
	uint32_t writers, held;
	char reason[MARKER_REASON_MAX];
	struct file *file; /* referenced; NULL: not open */
	bool recalled;     /* its */
};

static int snapshot(struct fs *fs, struct inode *i, struct snapshot *ret)
{
	struct statx stx;
	int r = file_stat(fs, i, &stx);

	*ret = (struct snapshot){.declared = RULE_NONE};
	if (r < 0)
		return r;
	if (!S_ISREG(stx.stx_mode))
		return -ENODATA;
	ret->size = stx.stx_size;
	SCOPED_LOCK(&fs->files_lock);
	if (i->aborted) {
		ret->state = FILE_ABORTED;
		ret->declared = i->aborted->declared;
		snprintf(ret->reason, sizeof(ret->reason), "%s", i->aborted->reason);
	}
	if (i->file) {
		ret->file = file_ref_locked(i->file);
		ret->writers = i->file->writers;
		ret->held = i->file->n_held;
		end_check_declared_locked(i->file, stx.stx_size);
		ret->recalled = i->file->recalled; /* otherwise it is being opened */
		if (ret->recalled) {
			ret->state = i->file->state;
			ret->declared = i->file->declared;
		}
		if (i->file->note[0] && ret->state != FILE_ABORTED)
			snprintf(ret->reason, sizeof(ret->reason), "%s", i->file->note);
	}
	return 0;
}

static int put_progress(char *buf, size_t size, enum file_state state, uint64_t edge,
	uint64_t declared, uint64_t cuts, const struct timespec *changed,
	const struct timespec *written, bool doubts)
{
	char promise[24] = "-";

	if (declared != RULE_NONE)
		snprintf(promise, sizeof(promise), "%" PRIu64, declared);
	return snprintf(buf, size, "%s %" PRIu64 " %s %" PRIu64 " %jd.%09ld %jd.%09ld%s",
		state_name(state), edge, promise, cuts, (intmax_t)changed->tv_sec, changed->tv_nsec,
		(intmax_t)written->tv_sec, written->tv_nsec, doubts ? " settling" : "");
}

/* What one who reads through a plain handle must know, at one moment: no cut comes between the edge
 * and the count of cuts, and an end is told only if it was there before the size. A cut may take as
 * long as the store likes: -EAGAIN, for who asks has others to serve. */
static int progress(struct fs *fs, struct file *f, char *buf, size_t size)
{
	uint64_t edge = 0, declared, cuts;
	struct timespec written;
	enum file_state state;
	uint32_t doubts;
	struct timespec until = clock_real_in_ms(20);
	struct stat st;
	int r;

	if (pthread_rwlock_timedrdlock(&f->io, &until) != 0)
		return -EAGAIN;
	pthread_mutex_lock(&fs->files_lock);
	state = f->state;
	declared = f->declared; /* of the same moment: with its end a file loses it */
	doubts = f->doubts;
	pthread_mutex_unlock(&fs->files_lock);
	r = fstat(file_fd(f), &st) < 0 ? -errno : state_edge(fs, f, (uint64_t)st.st_size, &edge);
	pthread_mutex_lock(&fs->files_lock);
	if (r == 0) {
		end_check_declared_locked(f, (uint64_t)st.st_size);
		f->edge_told = edge > f->edge_told ? edge : f->edge_told;
	}
	if (state == f->state)
		declared = f->declared;
	cuts = f->cuts;
	doubts = f->doubts - doubts;
	if (r == 0)
		written = file_written_locked(f, &st);
	pthread_mutex_unlock(&fs->files_lock);
	pthread_rwlock_unlock(&f->io);
	return r < 0 ? r
		     : put_progress(buf, size, state, edge, declared, cuts, &st.st_ctim, &written,
			       doubts);
}

/* Of a file that was not open when s was taken; here, too, the end was there before the size. */
static int progress_closed(
	struct fs *fs, struct inode *i, const struct snapshot *s, char *buf, size_t size)
{
	struct statx stx;
	int r = file_stat(fs, i, &stx);

	if (r < 0)
		return r;
	return put_progress(buf, size, s->state, stx.stx_size, s->declared, 0,
		&(struct timespec){stx.stx_ctime.tv_sec, stx.stx_ctime.tv_nsec},
		&(struct timespec){stx.stx_mtime.tv_sec, stx.stx_mtime.tv_nsec}, false);
}

/* The text of one attribute; its length, or -ENODATA when the file has none by that name. */
static int text_of(struct fs *fs, struct inode *i, const struct snapshot *s, const char *what,
	char *buf, size_t size)
{
	uint64_t edge = 0;
	int r;

	if (!strcmp(what, "state"))
		return snprintf(buf, size, "%s", state_name(s->state));
	if (!strcmp(what, "writers"))
		return snprintf(buf, size, "%" PRIu32, s->writers);
	if (!strcmp(what, "readers"))
		return snprintf(buf, size, "%" PRIu32, s->held);
	if (!strcmp(what, "reason") && s->reason[0])
		return snprintf(buf, size, "%s", s->reason);
	if (!strcmp(what, "size") && s->declared != RULE_NONE)
		return snprintf(buf, size, "%" PRIu64, s->declared);
	if (!strcmp(what, "progress"))
		return s->recalled ? progress(fs, s->file, buf, size)
				   : progress_closed(fs, i, s, buf, size);
	if (strcmp(what, "edge") != 0)
		return -ENODATA;
	r = state_edge(fs, s->file, s->size, &edge);
	return r < 0 ? r : snprintf(buf, size, "%" PRIu64, edge);
}

void state_get(fuse_req_t req, struct inode *i, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	char text[MARKER_REASON_MAX + 1];
	struct snapshot s;
	int n;

	end_recall_again(fs, i);
	n = snapshot(fs, i, &s);
	if (n == 0)
		n = text_of(fs, i, &s, name + strlen(PREFIX), text, sizeof(text));
	if (s.file)
		file_put(fs, s.file);
	if (n < 0)
		reply_error(req, n);
	else if (size == 0)
		reply_xattr_size(req, (size_t)n);
	else if ((size_t)n > size)
		reply_error(req, -ERANGE);
	else
		reply_data(req, text, (size_t)n);
}

static int set_state(struct fs *fs, struct inode *i, const char *text)
{
	const char aborted[] = "aborted";
	size_t len = strlen(aborted);

	if (!strcmp(text, "complete"))
		return end_complete(fs, i);
	if (!strncmp(text, aborted, len) && (!text[len] || text[len] == ' '))
		return end_abort(fs, i, text[len] ? text + len + 1 : NULL);
	return -EINVAL;
}

void state_set(fuse_req_t req, struct inode *i, const char *name, const char *value, size_t size)
{
	struct fs *fs = fs_of(req);
	const char *what = name + strlen(PREFIX);
	char text[sizeof("aborted ") - 1 + MARKER_REASON_MAX];
	uint64_t number;
	int r = -EPERM; /* the others only tell */

	if (size >= sizeof(text) || memchr(value, '\0', size)) {
		reply_error(req, -EINVAL);
		return;
	}
	memcpy(text, value, size);
	text[size] = '\0';
	if (!strcmp(what, "state")) {
		r = set_state(fs, i, text);
	} else if (!strcmp(what, "size")) {
		r = parse_u64(text, &number);
		if (r == -ERANGE)
			r = -EFBIG;
		if (r == 0)
			r = end_declare(fs, i, number);
	}
	reply_error(req, r);
}

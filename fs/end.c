/* SPDX-License-Identifier: MIT */
#include "fs/end.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "fs/creds.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/invalidate.h"
#include "fs/leftover.h"
#include "fs/process.h"

/* --- the marker ----------------------------------------------------------------------------- */

/* Whether a marker that was refused for this may be taken another time. */
static bool is_passing(int r)
{
	/* Its owner may not write it and is not root; or chattr(1) +a. */
	return r < 0 && r != -EOPNOTSUPP && r != -EACCES && r != -EPERM;
}

/* Setup lock held. A store that takes no marker is served without crash memory. 0, or why not. */
static int mark(struct fs *fs, struct file *f, bool aborted, uint64_t declared, const char *reason)
{
	struct marker m = {.aborted = aborted, .declared = declared};
	int r;

	snprintf(m.reason, sizeof(m.reason), "%s", reason);
	creds_own_if_tight(fs);
	r = marker_write(file_fd(f), &m);
	if (r == 0) {
		f->marked = true;
		fs->full_said = false;
		return r;
	}
	if (r == -EOPNOTSUPP)
		f->marked = false; /* nor did it before */
	if ((r == -EOPNOTSUPP && !atomic_exchange(&fs->unmarked_said, true)) ||
		(is_passing(r) && !f->marked && !atomic_exchange(&fs->full_said, true)))
		log_warn("the store takes no marker (%s): a crash of this daemon would leave files "
			 "that look complete",
			strerror(-r));
	return r;
}

/* r: why f, which is aborted, has no marker. */
static void say_unmarked(struct fs *fs, const struct file *f, int r)
{
	char path[PATH_MAX];

	if (is_passing(r) && inode_path(&fs->inodes, f->inode, path, sizeof(path)) == 0)
		log_warn("%s is aborted, and the store takes no marker (%s): without this daemon "
			 "it will look complete",
			path, strerror(-r));
}

void end_unmark(struct fs *fs, struct file *f)
{
	struct stat st;
	int r;

	if (!f->marked)
		return;
	creds_own_if_tight(fs);
	r = marker_remove(file_fd(f));
	f->marked = r < 0;
	if (r == 0)
		leftover_drop(fs, f->inode);
	else if (fstat(file_fd(f), &st) < 0 || st.st_nlink) /* somebody may find it again */
		leftover_add(fs, f->inode, r);
}

/* sync=complete: waits for the disk, without the setup lock, which is held before and after. */
static int bring_to_disk(const struct fs *fs, struct file *f)
{
	int r;

	if (fs->opt.sync != SYNC_COMPLETE)
		return 0;
	pthread_mutex_unlock(&f->setup);
	r = file_sync(f, NULL, false);
	pthread_mutex_lock(&f->setup);
	if (r == 0 && f->lost) /* it was told before */
		r = -EIO;
	if (r < 0)
		log_warn("fsync of a file that is complete: %s", strerror(-r));
	return r;
}

/* --- writers come and go -------------------------------------------------------------------- */

/* f, which was complete or aborted, grows from now on. Setup lock held. */
static void grow(struct fs *fs, struct file *f)
{
	bool shows_more; /* than an aborted file has */

	mark(fs, f, false, RULE_NONE, "");
	holes_begin(fs, f);
	f->lost = false;
	pthread_mutex_lock(&fs->files_lock);
	shows_more = f->declared != RULE_NONE;
	f->state = FILE_GROWING;
	f->since_ms = clock_ms();
	f->declared = RULE_NONE;
	f->note[0] = '\0';
	f->failed = false;
	end_forget_of_file_locked(fs, f);
	pthread_mutex_unlock(&fs->files_lock);
	if (shows_more)
		invalidate_attributes(fs, f->inode); /* or a writer would go on behind that size */
}

void end_writer_comes(struct fs *fs, struct file *f)
{
	bool lingers, begins;
	uint64_t declared;

	pthread_mutex_lock(&fs->files_lock);
	f->writers_come++;
	begins = f->state != FILE_GROWING;
	declared = f->declared;
	lingers = list_is_linked(&f->lingering);
	list_del(&f->lingering);
	pthread_mutex_unlock(&fs->files_lock);
	if (lingers)
		file_put(fs, f); /* the opener holds another reference */
	if (begins)
		grow(fs, f);
	else if (!f->marked) /* it was about to be complete */
		mark(fs, f, false, declared, "");
}

/* Shells close a second descriptor of what they open, but before anything is declared. */
static bool lets_go(struct fs *fs, const struct handle *h, pid_t pid)
{
	pid_t process;
	bool declared;

	pthread_mutex_lock(&fs->files_lock);
	declared = h->file->declared != RULE_NONE;
	pthread_mutex_unlock(&fs->files_lock);
	if (!declared || pid <= 0)
		return false;
	process = process_of(pid);
	return process && process == process_of(h->opener);
}

void end_judge(struct fs *fs, struct handle *h, pid_t pid)
{
	char reason[MARKER_REASON_MAX] = "";
	bool failing = false, let_go;
	struct stat st = {0};

	if (h->kind != HANDLE_WRITER || fs->opt.abort_on == ABORT_ON_NEVER)
		return;
	if (pid > 0) /* 0: of another pid namespace */
		failing = process_is_failing(
			pid, fs->opt.abort_on == ABORT_ON_FAILURE, reason, sizeof(reason));
	(void)fstat(file_fd(h->file), &st); /* of a dead disk: then no later time equals it */
	let_go = lets_go(fs, h, pid);
	SCOPED_LOCK(&fs->files_lock);
	h->let_go |= let_go;
	h->judged = true;
	h->file->judged = st.st_mtim;
	h->file->failed = failing;
	memcpy(h->file->failure, reason, sizeof(reason));
}

/* Why f, which nobody writes any more, is not all there; NULL if it is. Setup lock held. */
static const char *what_is_missing(struct fs *fs, struct file *f, char text[MARKER_REASON_MAX])
{
	struct stat st = {0};
	uint64_t declared;

	pthread_mutex_lock(&fs->files_lock);
	declared = f->declared;
	pthread_mutex_unlock(&fs->files_lock);
	if (declared != RULE_NONE && fstat(file_fd(f), &st) == 0) {
		SCOPED_LOCK(&fs->files_lock);
		end_check_declared_locked(f, (uint64_t)st.st_size);
		declared = f->declared;
	}
	if (declared == RULE_NONE || (uint64_t)st.st_size >= declared)
		return NULL;
	snprintf(text, MARKER_REASON_MAX, "closed with %" PRIu64 " of %" PRIu64 " declared bytes",
		(uint64_t)st.st_size, declared);
	return text;
}

/*
 * Ends f as it deserves; setup lock held. reason: why it failed, NULL if it did not. The caller
 * wakes, without the lock.
 */
static void finish(struct fs *fs, struct file *f, const char *reason)
{
	char text[MARKER_REASON_MAX];
	const char *missing = what_is_missing(fs, f, text);
	struct stat st;
	uint64_t declared;
	bool keep, lingers;
	int r = 0;

	if (!reason)
		reason = missing;
	pthread_mutex_lock(&fs->files_lock);
	declared = f->declared;
	pthread_mutex_unlock(&fs->files_lock);
	if (reason)
		r = mark(fs, f, true, declared, reason);
	else
		end_unmark(fs, f);
	/* It has a name to be found by, and no marker to say more. */
	keep = reason && !f->marked && fstat(file_fd(f), &st) == 0 && st.st_nlink;
	if (keep)
		say_unmarked(fs, f, r);

	pthread_mutex_lock(&fs->files_lock);
	lingers = list_is_linked(&f->lingering); /* and is ended by hand */
	list_del(&f->lingering);
	f->state = reason ? FILE_ABORTED : FILE_COMPLETE;
	f->bytes_only = false;
	f->examined = 0;
	ranges_done(&f->unwritten);
	if (reason) {
		end_remember_locked(fs, f->inode, false, keep, declared, reason);
	} else {
		f->declared = RULE_NONE;
		end_forget_of_file_locked(fs, f);
	}
	pthread_mutex_unlock(&fs->files_lock);
	if (lingers)
		file_put(fs, f); /* the caller has another reference */
}

/* Whether f is to be completed: writers is how many had come when the last one had gone. */
static bool is_closed(struct fs *fs, const struct file *f, uint64_t writers)
{
	SCOPED_LOCK(&fs->files_lock);
	return f->state == FILE_GROWING && f->writers_come == writers;
}

void end_complete_closed(struct fs *fs, struct file *f, uint64_t writers)
{
	char text[MARKER_REASON_MAX];
	const char *reason = NULL;
	bool over;

	pthread_mutex_lock(&f->setup);
	if (bring_to_disk(fs, f) < 0)
		reason = "its bytes could not be brought to the disk";
	over = is_closed(fs, f, writers);
	if (over && !reason && !(reason = what_is_missing(fs, f, text))) {
		end_unmark(fs, f);
		(void)bring_to_disk(fs, f); /* what is lost was said; a writer who comes marks it */
		over = is_closed(fs, f, writers);
	}
	if (over)
		finish(fs, f, reason);
	pthread_mutex_unlock(&f->setup);
	if (over) {
		hold_wake(fs, f);
		leftover_retry(fs);
	}
}

/*
 * Ends f, which nobody writes any more, as it deserves, or leaves that to completer.c. Tells
 * whether it ended. Setup lock held.
 */
static bool end_closed(struct fs *fs, struct file *f, const char *reason)
{
	if (reason || fs->opt.sync != SYNC_COMPLETE) {
		finish(fs, f, reason);
		return true;
	}
	SCOPED_LOCK(&fs->files_lock);
	completer_add_locked(fs, f);
	return false;
}

static void let_linger(struct fs *fs, struct file *f)
{
	struct stat st;

	pthread_mutex_lock(&fs->files_lock);
	f->linger_until_ms = clock_ms() + fs->opt.linger_ms;
	list_add_tail(&fs->lingering, &f->lingering);
	file_ref_locked(f);
	pthread_mutex_unlock(&fs->files_lock);
	if (fstat(file_fd(f), &st) == 0 && !st.st_nlink)
		end_name_gone(fs, f->inode); /* before it was on the list */
	else
		watch_ring(&fs->watch);
}

bool end_writer_goes(struct fs *fs, struct handle *h)
{
	struct file *f = h->file;
	char reason[MARKER_REASON_MAX];
	bool last, failed;

	pthread_mutex_lock(&fs->files_lock);
	last = --f->writers == 0 && f->state == FILE_GROWING;
	/* Of the last close, though the RELEASE of another may be handled later. */
	failed = f->failed;
	memcpy(reason, f->failure, sizeof(reason));
	f->failed &= f->writers > 0;
	pthread_mutex_unlock(&fs->files_lock);
	if (!last)
		return false;
	if (failed || !fs->opt.linger_ms)
		return end_closed(fs, f, failed ? reason : NULL);
	let_linger(fs, f);
	return false;
}

void end_look(struct fs *fs, const struct file *f, struct end_before *ret)
{
	SCOPED_LOCK(&fs->files_lock);
	*ret = (struct end_before){f->state, f->declared, f->writers_come, ""};
	if (f->inode->aborted)
		snprintf(ret->reason, sizeof(ret->reason), "%s", f->inode->aborted->reason);
}

void end_take_back(struct fs *fs, struct handle *h, const struct end_before *before)
{
	const bool aborted = before->state == FILE_ABORTED;
	struct file *f = h->file;
	bool alone, undo;

	if (h->kind != HANDLE_WRITER)
		return;
	pthread_mutex_lock(&fs->files_lock);
	alone = f->writers_come == before->writers_come + 1;
	undo = alone && before->state != FILE_GROWING && f->state == FILE_GROWING;
	if (undo)
		f->declared = before->declared;
	if (undo || f->writers > 1) { /* then the file does not end with it */
		f->writers--;
		h->kind = HANDLE_PLAIN;
	} else if (aborted) {
		f->failed = true; /* nothing has become better */
		memcpy(f->failure, before->reason, sizeof(f->failure));
	}
	pthread_mutex_unlock(&fs->files_lock);
	if (undo)
		finish(fs, f, aborted ? before->reason : NULL);
}

/*
 * Whether the last close of h was heard, as it was if the filesystem went by itself. If the
 * connection was aborted before, by force, it was not; then the file may have been written to after
 * a close that was heard, such as that of the shell that redirected.
 */
static bool was_judged(const struct fs *fs, const struct handle *h)
{
	const struct timespec *then = &h->file->judged;
	struct stat st;

	if (fs->opt.abort_on == ABORT_ON_NEVER)
		return true;
	return h->judged && fstat(file_fd(h->file), &st) == 0 &&
	       st.st_mtim.tv_sec == then->tv_sec && st.st_mtim.tv_nsec == then->tv_nsec;
}

void end_all_closed(struct fs *fs)
{
	/* Each with a reference, and then none goes, though some are being completed. */
	pthread_mutex_lock(&fs->files_lock);
	list_for_each (it, &fs->files)
		(void)file_ref_locked(list_entry(it, struct file, on_all));
	pthread_mutex_unlock(&fs->files_lock);
	list_for_each_safe (it, &fs->files) {
		struct file *f = list_entry(it, struct file, on_all);

		pthread_mutex_lock(&f->setup);
		list_for_each (jt, &f->handles) {
			struct handle *h = list_entry(jt, struct handle, on_file);

			if (h->kind == HANDLE_WRITER && was_judged(fs, h))
				(void)end_writer_goes(fs, h); /* nobody waits any more */
		}
		pthread_mutex_unlock(&f->setup);
		file_put(fs, f);
	}
}

/* f has lingered long enough. */
static void end_lingering_locked(struct fs *fs, struct file *f)
{
	list_del(&f->lingering);
	completer_add_locked(fs, f);
	f->refs--; /* the queue has one */
}

void end_name_gone(struct fs *fs, struct inode *i)
{
	bool kept = false;

	pthread_mutex_lock(&fs->files_lock);
	if (i->aborted) {
		kept = i->aborted->kept;
		i->aborted->kept = false;
	}
	if (i->file && list_is_linked(&i->file->lingering))
		end_lingering_locked(fs, i->file); /* for nobody, who could open it by name */
	pthread_mutex_unlock(&fs->files_lock);
	leftover_drop(fs, i);
	if (kept)
		inode_unref(&fs->inodes, i);
}

int end_linger(struct fs *fs, bool everything)
{
	uint64_t now = clock_ms();

	SCOPED_LOCK(&fs->files_lock);
	while (!list_is_empty(&fs->lingering)) {
		struct file *f = list_entry(fs->lingering.next, struct file, lingering);

		if (f->linger_until_ms > now && !everything)
			return (int)(f->linger_until_ms - now < 60000 ? f->linger_until_ms - now
								      : 60000);
		end_lingering_locked(fs, f);
	}
	return -1;
}

/* --- by hand -------------------------------------------------------------------------------- */

void end_check_declared_locked(struct file *f, uint64_t size)
{
	if (f->declared == RULE_NONE || size <= f->declared || f->state != FILE_GROWING)
		return;
	snprintf(f->note, sizeof(f->note), "%" PRIu64 " bytes written, %" PRIu64 " declared", size,
		f->declared);
	f->declared = RULE_NONE;
}

/* A writer that closed may still count as one: its RELEASE is handled when it comes. */
static bool is_written_by_others_locked(const struct file *f, const struct handle *h)
{
	list_for_each (it, &f->handles) {
		const struct handle *other = list_entry(it, struct handle, on_file);

		if (other != h && other->kind == HANDLE_WRITER && !other->let_go)
			return true;
	}
	return false;
}

/* Their bytes are gone: a size that is declared from now on is not for them. */
static void let_others_go_locked(struct file *f, const struct handle *h)
{
	list_for_each (it, &f->handles) {
		struct handle *other = list_entry(it, struct handle, on_file);

		other->let_go |= other != h;
	}
}

void end_emptied(struct fs *fs, struct file *f)
{
	bool aborted, written;

	pthread_mutex_lock(&fs->files_lock);
	aborted = f->state == FILE_ABORTED;
	written = f->writers;
	pthread_mutex_unlock(&fs->files_lock);
	if (aborted)
		grow(fs, f);
	if (aborted && !written)
		(void)end_closed(fs, f, NULL); /* the caller wakes in any case */
}

void end_begin_anew(struct fs *fs, struct file *f, const struct handle *h, bool had_bytes)
{
	bool was;

	pthread_mutex_lock(&fs->files_lock);
	was = f->state == FILE_GROWING && f->declared != RULE_NONE &&
	      (had_bytes || !is_written_by_others_locked(f, h));
	if (was)
		f->declared = RULE_NONE;
	if (had_bytes)
		let_others_go_locked(f, h);
	pthread_mutex_unlock(&fs->files_lock);
	if (was)
		mark(fs, f, false, RULE_NONE, "");
	else
		end_emptied(fs, f);
}

/* The file of i, with a descriptor to write attributes with, its setup lock held. */
static int take_file(struct fs *fs, struct inode *i, struct file **ret)
{
	int r = i->type == S_IFREG ? file_get(fs, i, ret) : -EOPNOTSUPP;

	if (r < 0)
		return r;
	pthread_mutex_lock(&(*ret)->setup);
	r = file_open_descriptors(fs, *ret, false, true, -1);
	if (r < 0) {
		pthread_mutex_unlock(&(*ret)->setup);
		file_put(fs, *ret);
		return r;
	}
	end_recall_open(fs, *ret);
	return 0;
}

static void leave_file(struct fs *fs, struct file *f)
{
	pthread_mutex_unlock(&f->setup);
	invalidate_attributes(fs, f->inode);
	hold_wake(fs, f);
	file_put(fs, f);
}

int end_abort(struct fs *fs, struct inode *i, const char *reason)
{
	struct file *f;
	int r = take_file(fs, i, &f);

	if (r < 0)
		return r;
	finish(fs, f, reason && *reason ? reason : "by hand");
	leave_file(fs, f);
	return 0;
}

int end_complete(struct fs *fs, struct inode *i)
{
	struct file *f;
	int r = take_file(fs, i, &f);

	if (r < 0)
		return r;
	r = bring_to_disk(fs, f);
	if (r == 0) {
		pthread_mutex_lock(&fs->files_lock);
		f->declared = RULE_NONE;
		f->marked |= f->state == FILE_ABORTED; /* by a daemon before this one, perhaps */
		pthread_mutex_unlock(&fs->files_lock);
		finish(fs, f, NULL);
		(void)bring_to_disk(fs, f); /* what is lost was said */
	}
	leave_file(fs, f);
	return r;
}

int end_declare(struct fs *fs, struct inode *i, uint64_t size)
{
	struct stat st;
	struct file *f;
	bool first;
	int r = take_file(fs, i, &f);

	if (r < 0)
		return r;
	if (fstat(file_fd(f), &st) < 0)
		r = -errno;
	else if (size > INT64_MAX)
		r = -EFBIG;
	else if (!file_is_growing(fs, f))
		r = -EPERM;
	else if (size < (uint64_t)st.st_size)
		r = -ERANGE;
	if (r == 0) {
		mark(fs, f, false, size, "");
		pthread_mutex_lock(&fs->files_lock);
		first = f->declared == RULE_NONE;
		list_for_each (it, &f->handles) /* a better guess is for those of the first */
			list_entry(it, struct handle, on_file)->let_go &= first;
		f->declared = size;
		pthread_mutex_unlock(&fs->files_lock);
	}
	leave_file(fs, f);
	return r;
}

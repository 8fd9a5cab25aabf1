/* SPDX-License-Identifier: MIT */
#include "fs/writeout.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/hold.h"
#include "fs/reserve.h"

/* No file more often: it may wait for the disk again at once, or nobody may tell. */
#define PAUSE_MS 20

/* The next file, with the queue's reference; waits for one. NULL: it is over. */
static struct file *take(struct fs *fs, struct range *ret)
{
	struct writeout *w = &fs->writeout;
	struct file *f;

	SCOPED_LOCK(&fs->files_lock);
	while (list_is_empty(&w->queue) && !w->stop)
		pthread_cond_wait(&w->more, &fs->files_lock);
	if (w->stop)
		return NULL;
	f = list_entry(w->queue.next, struct file, writing_out);
	list_del(&f->writing_out);
	*ret = f->to_write_out;
	return f;
}

static void *writeout_main(void *arg)
{
	struct fs *fs = arg;
	struct range r;
	struct file *f;

	while ((f = take(fs, &r))) {
		/* If it fails they wait until the file ends, as in a gap. */
		reserve_write_out(file_fd(f), r);
		pthread_mutex_lock(&fs->files_lock);
		f->written_out_ms = clock_ms();
		pthread_mutex_unlock(&fs->files_lock);
		hold_wake(fs, f);
		file_put(fs, f);
	}
	return NULL;
}

int writeout_start(struct fs *fs)
{
	struct writeout *w = &fs->writeout;
	int r;

	pthread_cond_init(&w->more, NULL);
	list_init(&w->queue);
	if (fs->opt.passthrough == PASSTHROUGH_OFF)
		return 0;
	r = -pthread_create(&w->thread, NULL, writeout_main, fs);
	w->running = r == 0;
	return r;
}

static bool queue(struct fs *fs, struct file *f, struct range part)
{
	struct writeout *w = &fs->writeout;

	SCOPED_LOCK(&fs->files_lock);
	f->doubts++;
	if (w->stop)
		return true;
	if (clock_ms() < f->written_out_ms + PAUSE_MS)
		return false;
	if (!list_is_linked(&f->writing_out)) {
		list_add_tail(&w->queue, &f->writing_out);
		file_ref_locked(f);
		f->to_write_out = part;
		pthread_cond_signal(&w->more);
	}
	if (part.start < f->to_write_out.start)
		f->to_write_out.start = part.start;
	if (part.end > f->to_write_out.end)
		f->to_write_out.end = part.end;
	return true;
}

void writeout_add(struct fs *fs, struct file *f, struct range part)
{
	if (!queue(fs, f, part))
		watch_by_time(fs, f); /* whoever waits asks again */
}

static struct file *take_dropped(struct fs *fs)
{
	struct file *f;

	SCOPED_LOCK(&fs->files_lock);
	if (list_is_empty(&fs->writeout.queue))
		return NULL;
	f = list_entry(fs->writeout.queue.next, struct file, writing_out);
	list_del(&f->writing_out);
	return f;
}

void writeout_stop(struct fs *fs)
{
	struct writeout *w = &fs->writeout;
	struct file *f;

	pthread_mutex_lock(&fs->files_lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&fs->files_lock);
	if (w->running)
		pthread_join(w->thread, NULL);
	while ((f = take_dropped(fs)))
		file_put(fs, f);
	pthread_cond_destroy(&w->more);
}

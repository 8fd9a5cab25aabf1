/* SPDX-License-Identifier: MIT */
#include "fs/completer.h"

#include "common/cleanup.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"

/* The next file, with the queue's reference; waits for one. NULL: there is none, and it is over. */
static struct file *take(struct fs *fs, uint64_t *ret_writers)
{
	struct completer *c = &fs->completer;
	struct file *f;

	SCOPED_LOCK(&fs->files_lock);
	while (list_is_empty(&c->queue)) {
		if (c->stop)
			return NULL;
		pthread_cond_wait(&c->more, &fs->files_lock);
	}
	f = list_entry(c->queue.next, struct file, completing);
	list_del(&f->completing);
	*ret_writers = f->writers_when_queued;
	return f;
}

static void *completer_main(void *arg)
{
	struct fs *fs = arg;
	uint64_t writers;
	struct file *f;

	while ((f = take(fs, &writers))) {
		end_complete_closed(fs, f, writers);
		file_put(fs, f);
	}
	return NULL;
}

int completer_start(struct fs *fs)
{
	struct completer *c = &fs->completer;
	unsigned n = fs->opt.sync == SYNC_COMPLETE ? COMPLETER_THREADS : fs->opt.linger_ms > 0;
	int r = 0;

	pthread_cond_init(&c->more, NULL);
	list_init(&c->queue);
	while (c->n_threads < n && r == 0) {
		r = -pthread_create(&c->threads[c->n_threads], NULL, completer_main, fs);
		c->n_threads += r == 0;
	}
	return r;
}

void completer_add_locked(struct fs *fs, struct file *f)
{
	struct completer *c = &fs->completer;

	f->writers_when_queued = f->writers_come;
	if (list_is_linked(&f->completing))
		return;
	list_add_tail(&c->queue, &f->completing);
	file_ref_locked(f);
	pthread_cond_signal(&c->more);
}

void completer_stop(struct fs *fs)
{
	struct completer *c = &fs->completer;

	pthread_mutex_lock(&fs->files_lock);
	c->stop = true;
	pthread_cond_broadcast(&c->more);
	pthread_mutex_unlock(&fs->files_lock);
	while (c->n_threads)
		pthread_join(c->threads[--c->n_threads], NULL);
	pthread_cond_destroy(&c->more);
}

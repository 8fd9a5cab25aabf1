/* SPDX-License-Identifier: MIT */
#include "fs/status.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/process.h"
#include "fs/reply.h"
#include "fs/state.h"

#define RATE_SPAN_MS 500 /* a speed is measured over no less */

struct document {
	size_t size;
	char text[];
};

/* --- the two inodes ------------------------------------------------------------------------- */

void status_init(struct fs *fs)
{
	/* Our reference keeps them from being freed; they have no place in the store. */
	fs->status_dir = (struct inode){.fd = -1, .refs = 1, .type = S_IFDIR, .ino = 2};
	fs->status_file = (struct inode){.fd = -1, .refs = 1, .type = S_IFREG, .ino = 3};
	list_init(&fs->status_dir.lru);
	list_init(&fs->status_file.lru);
	clock_gettime(CLOCK_REALTIME, &fs->status_dir.btime);
	fs->status_file.btime = fs->status_dir.btime;
}

bool status_owns(struct fs *fs, struct inode *i)
{
	return i == &fs->status_dir || i == &fs->status_file;
}

bool status_owns_name(struct fs *fs, const struct inode *parent, const char *name)
{
	return parent == &fs->status_dir ||
	       (parent == &fs->inodes.root && name && !strcmp(name, STATUS_DIR));
}

static void describe(struct fs *fs, const struct inode *i, struct statx *ret)
{
	struct timespec now;
	bool dir = i == &fs->status_dir;

	clock_gettime(CLOCK_REALTIME, &now);
	*ret = (struct statx){.stx_ino = i->ino,
		.stx_mode = (uint16_t)(i->type | (dir ? 0555 : 0444)),
		.stx_nlink = dir ? 2 : 1,
		.stx_uid = geteuid(),
		.stx_gid = getegid(),
		.stx_blksize = 4096,
		.stx_mtime = {.tv_sec = now.tv_sec, .tv_nsec = (uint32_t)now.tv_nsec}};
	ret->stx_atime = ret->stx_ctime = ret->stx_mtime;
}

bool status_lookup(fuse_req_t req, struct inode *parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *i = NULL;
	struct statx stx;

	if (parent == &fs->inodes.root && !strcmp(name, STATUS_DIR))
		i = &fs->status_dir;
	else if (parent == &fs->status_dir && !strcmp(name, STATUS_FILE))
		i = &fs->status_file;
	else if (parent != &fs->status_dir)
		return false;
	if (!i) {
		reply_error(req, -ENOENT);
		return true;
	}
	describe(fs, i, &stx);
	inode_look_up(&fs->inodes, i);
	reply_entry(req, i, &stx);
	return true;
}

void status_getattr(fuse_req_t req, struct inode *i)
{
	struct statx stx;

	describe(fs_of(req), i, &stx);
	reply_attr(req, i, &stx);
}

/* --- the document --------------------------------------------------------------------------- */

/* A name need not be UTF-8, JSON must: then other bytes become U+FFFD here and hex beside it. */
static void set_text(json_t *o, const char *key, const char *text)
{
	json_t *s = json_string(text);
	autofree char *ascii = NULL, *hex = NULL;
	char hex_key[32];
	size_t len = strlen(text), at = 0;

	if (s) {
		json_object_set_new(o, key, s);
		return;
	}
	ascii = malloc(len * 3 + 1);
	hex = malloc(len * 2 + 1);
	if (!ascii || !hex)
		return;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		snprintf(hex + 2 * i, 3, "%02x", c);
		if (c < 0x80)
			ascii[at++] = (char)c;
		else
			at += (size_t)sprintf(ascii + at, "\xef\xbf\xbd");
	}
	ascii[at] = '\0';
	snprintf(hex_key, sizeof(hex_key), "%s_hex", key);
	json_object_set_new(o, key, json_string(ascii));
	json_object_set_new(o, hex_key, json_string(hex));
}

static void set_number(json_t *o, const char *key, uint64_t n)
{
	json_object_set_new(o, key, n == RULE_NONE ? json_null() : json_integer((json_int_t)n));
}

/* Of the thread that opened the file its process is told; once it has ended, nobody knows that. */
static json_t *writer(pid_t thread)
{
	pid_t process = process_of(thread), pid = process ? process : thread;
	json_t *o = json_object();
	char comm[32];

	process_command(pid, comm, sizeof(comm));
	set_number(o, "pid", (uint64_t)pid);
	set_text(o, "command", comm);
	return o;
}

/* Bytes per second since the last document that is old enough, or since the beginning. */
static double rate_locked(struct file *f, uint64_t size)
{
	uint64_t now = clock_ms();

	if (!f->rate_ms)
		f->rate_ms = f->since_ms;
	if (now >= f->rate_ms + RATE_SPAN_MS) {
		f->rate = size < f->rate_size ? 0
					      : (double)(size - f->rate_size) * 1000 /
							(double)(now - f->rate_ms);
		f->rate_ms = now;
		f->rate_size = size;
	}
	return f->rate;
}

static void set_path(struct fs *fs, json_t *o, struct inode *i)
{
	char path[PATH_MAX];

	if (inode_path(&fs->inodes, i, path, sizeof(path)) == 0)
		set_text(o, "path", path);
	else
		json_object_set_new(o, "path", json_null()); /* unlinked */
}

/* A file that is open and growing, or aborted; NULL: it is complete by now. */
static json_t *open_file(struct fs *fs, struct file *f)
{
	json_t *o = json_object(), *writers = json_array();
	pid_t pids[16];
	size_t n = 0;
	uint64_t edge = 0;
	struct stat st = {0};
	bool complete;

	set_path(fs, o, f->inode);
	pthread_mutex_lock(&fs->files_lock);
	complete = f->state == FILE_COMPLETE;
	json_object_set_new(o, "state", json_string(state_name(f->state)));
	set_number(o, "declared", f->declared);
	set_number(o, "readers", f->n_held);
	json_object_set_new(
		o, "age", json_real(f->since_ms ? (double)(clock_ms() - f->since_ms) / 1000 : 0));
	if (f->state == FILE_ABORTED && f->inode->aborted)
		set_text(o, "reason", f->inode->aborted->reason);
	else if (f->note[0])
		set_text(o, "reason", f->note);
	list_for_each (it, &f->handles) {
		const struct handle *h = list_entry(it, struct handle, on_file);

		if (h->kind == HANDLE_WRITER && n < sizeof(pids) / sizeof(pids[0]))
			pids[n++] = h->opener;
	}
	pthread_mutex_unlock(&fs->files_lock);
	/* After the state: an end is told with all bytes before it. */
	(void)fstat(file_fd(f), &st); /* then it is 0 */
	(void)state_edge(fs, f, (uint64_t)st.st_size, &edge);
	set_number(o, "edge", edge);
	pthread_mutex_lock(&fs->files_lock);
	json_object_set_new(o, "rate", json_real(rate_locked(f, edge)));
	pthread_mutex_unlock(&fs->files_lock);
	for (size_t k = 0; k < n; k++)
		json_array_append_new(writers, writer(pids[k]));
	json_object_set_new(o, "writers", writers);
	if (complete)
		json_decref(steal_ptr(&o));
	return o;
}

/* An aborted file that nobody has open. */
static json_t *aborted_file(struct fs *fs, const struct aborted *a)
{
	json_t *o = json_object();
	struct statx stx = {0};

	(void)file_stat(fs, a->inode, &stx); /* then it is 0 */
	set_path(fs, o, a->inode);
	json_object_set_new(o, "state", json_string(state_name(FILE_ABORTED)));
	set_number(o, "edge", stx.stx_size);
	set_number(o, "declared", a->declared);
	json_object_set_new(o, "rate", json_real(0));
	set_number(o, "readers", 0);
	json_object_set_new(o, "age", json_null());
	set_text(o, "reason", a->reason);
	json_object_set_new(o, "writers", json_array());
	return o;
}

/* What the document is about, at one moment: a file may be opened and closed meanwhile. */
struct contents {
	struct file **open;      /* with references */
	struct aborted *aborted; /* copies, with references to their inodes */
	size_t n_open, n_aborted;
};

static bool is_told_locked(const struct file *f)
{
	return f && f->recalled && f->state != FILE_COMPLETE;
}

static size_t length_of(const struct list *list)
{
	size_t n = 0;

	list_for_each (it, list)
		n++;
	return n;
}

static void take_contents(struct fs *fs, struct contents *ret)
{
	*ret = (struct contents){0};
	SCOPED_LOCK(&fs->files_lock);
	ret->open = calloc(length_of(&fs->files) + 1, sizeof(*ret->open));
	ret->aborted = calloc(length_of(&fs->aborted) + 1, sizeof(*ret->aborted));
	if (!ret->open || !ret->aborted)
		return;
	list_for_each (it, &fs->files) {
		struct file *f = list_entry(it, struct file, on_all);

		if (is_told_locked(f))
			ret->open[ret->n_open++] = file_ref_locked(f);
	}
	list_for_each (it, &fs->aborted) {
		struct aborted *a = list_entry(it, struct aborted, on_all);

		if (!is_told_locked(a->inode->file) && inode_try_ref(&fs->inodes, a->inode))
			ret->aborted[ret->n_aborted++] = *a;
	}
}

static void add_files(struct fs *fs, json_t *files)
{
	struct contents c;

	take_contents(fs, &c);
	for (size_t k = 0; k < c.n_open; k++) {
		json_array_append_new(files, open_file(fs, c.open[k]));
		file_put(fs, c.open[k]);
	}
	for (size_t k = 0; k < c.n_aborted; k++) {
		json_array_append_new(files, aborted_file(fs, &c.aborted[k]));
		inode_unref(&fs->inodes, c.aborted[k].inode);
	}
	free(c.open);
	free(c.aborted);
}

static json_t *mode_of(struct fs *fs)
{
	struct utsname kernel = {0};
	json_t *o = json_object();

	(void)uname(&kernel); /* fails for a bad address alone */
	json_object_set_new(o, "passthrough", json_boolean(fs->passthrough));
	json_object_set_new(o, "privileged", json_boolean(fs->privileged));
	set_text(o, "kernel", kernel.release);
	set_text(o, "libfuse", fuse_pkgversion());
	return o;
}

static struct document *make_document(struct fs *fs)
{
	json_t *root = json_object(), *files = json_array();
	autofree char *text = NULL;
	struct document *d = NULL;
	size_t size;

	set_text(root, "version", RWWFS_VERSION);
	set_number(root, "pid", (uint64_t)getpid());
	set_text(root, "store", fs->opt.store);
	set_text(root, "mountpoint", fs->opt.mountpoint);
	json_object_set_new(root, "mode", mode_of(fs));
	json_object_set_new(root, "options", options_json(&fs->opt));
	add_files(fs, files);
	json_object_set_new(root, "files", files);
	text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	size = text ? strlen(text) : 0;
	d = text ? malloc(sizeof(*d) + size + 1) : NULL;
	if (!d)
		return NULL;
	memcpy(d->text, text, size);
	d->text[size] = '\n';
	d->size = size + 1;
	return d;
}

void status_open(fuse_req_t req, struct fuse_file_info *fi)
{
	struct document *d;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC)) {
		reply_error(req, -EACCES); /* root, too */
		return;
	}
	d = make_document(fs_of(req));
	if (!d) {
		reply_error(req, -ENOMEM);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)d;
	fi->direct_io = 1; /* its size is not known before */
	fi->noflush = 1;
	if (reply_open(req, fi) < 0)
		free(d);
}

size_t status_read(const struct fuse_file_info *fi, char *buf, size_t size, off_t offset)
{
	const struct document *d = (const struct document *)(uintptr_t)fi->fh;
	size_t from = (uint64_t)offset < d->size ? (size_t)offset : d->size;

	if (size > d->size - from)
		size = d->size - from;
	memcpy(buf, d->text + from, size);
	return size;
}

void status_release(fuse_req_t req, struct fuse_file_info *fi)
{
	free((struct document *)(uintptr_t)fi->fh);
	reply_error(req, 0);
}

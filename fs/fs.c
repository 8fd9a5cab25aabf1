/* SPDX-License-Identifier: MIT */
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/parse.h"
#include "fs/compat.h"
#include "fs/creds.h"
#include "fs/end.h"
#include "fs/fusermount.h"
#include "fs/leftover.h"
#include "fs/passthrough.h"
#include "fs/process.h"
#include "fs/status.h"

#define THREADS_USUAL 16
#define MANY          256        /* descriptors: fewer are not for pipes */
#define WRITE_MAX     (1u << 20) /* bytes of the largest write request */

/* --- INIT: what kernel and library can do, and what we make of it --------------------------- */

/* A system-wide limit ends the whole connection when one request is older: hold for less. */
static uint64_t system_limit_ms(void)
{
	static const char *const names[] = {"/proc/sys/fs/fuse/max_request_timeout",
		"/proc/sys/fs/fuse/default_request_timeout"};
	uint64_t least = 0;

	for (size_t i = 0; i < 2; i++) {
		FILE *f = fopen(names[i], "re");
		char text[32] = "";
		uint64_t seconds = 0;

		if (!f)
			continue; /* Linux before 6.15 has none */
		if (fgets(text, sizeof(text), f))
			text[strcspn(text, "\n")] = '\0';
		fclose(f);
		if (parse_u64(text, &seconds) == 0 && seconds && (!least || seconds * 1000 < least))
			least = seconds * 1000;
	}
	return least;
}

static void set_hold_limit(struct fs *fs)
{
	uint64_t limit = system_limit_ms();

	fs->hold_limit_ms = fs->opt.hold_timeout_ms;
	if (!limit)
		return;
	limit = limit > 2000 ? limit - limit / 4 : limit / 2;
	log_warn("fs.fuse request timeouts are set: a read is held for at most %.1f s",
		(double)limit / 1000);
	fs->system_limit_ms = limit;
	if (!fs->hold_limit_ms || fs->hold_limit_ms > limit)
		fs->hold_limit_ms = limit;
}

static void want(struct fuse_conn_info *conn, unsigned caps)
{
	conn->want |= conn->capable & caps;
}

static int write_pidfile(const struct fs *fs)
{
	FILE *f;

	if (!fs->opt.pidfile)
		return 0;
	f = fopen(fs->opt.pidfile, "we");
	if (f && fprintf(f, "%d\n", (int)getpid()) > 0 && fclose(f) == 0)
		return 0;
	log_error("pidfile %s: %s", fs->opt.pidfile, strerror(errno));
	return -errno;
}

/* The parent leaves; from here on nobody reads our stderr. */
static void tell_parent(struct fs *fs)
{
	int null;

	if (fs->ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		for (int fd = 0; fd < 3; fd++)
			(void)dup2(null, fd); /* cannot fail: both are open */
		(void)close(null);
	}
	log_to_syslog();
	if (write(fs->ready_fd, "", 1) < 0)
		log_warn("the process that started this one is gone, ignoring");
	(void)close(steal_fd(&fs->ready_fd)); /* a pipe */
}

static void fs_init(void *data, struct fuse_conn_info *conn)
{
	struct fs *fs = data;
	struct utsname kernel = {0};
	const char *without = passthrough_negotiate(fs, conn);

	fs->passthrough = !without;
	want(conn, FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_ATOMIC_O_TRUNC |
			   FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ |
			   FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_AUTO_INVAL_DATA | compat_caps() |
			   FUSE_CAP_IOCTL_DIR);
	if (fs->splices)
		want(conn, FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	else
		conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want &= ~(unsigned)FUSE_CAP_ASYNC_DIO; /* held reads would wait for each other */
	conn->max_read = (unsigned)fs->opt.max_read; /* as the option of the mount says */
	conn->max_write = WRITE_MAX;
	fs->request_max = fs->opt.max_read;
	set_hold_limit(fs);
	if (without && fs->opt.passthrough == PASSTHROUGH_ON) {
		log_error("option passthrough=on: cannot be had: %s", without);
		fuse_session_exit(fs->session);
		return;
	}
	if (write_pidfile(fs) < 0) {
		fuse_session_exit(fs->session);
		return;
	}
	fs->serving = true;
	(void)uname(&kernel); /* fails for a bad address alone */
	log_note("ready: %s on %s: passthrough %s%s%s%s, hold=%s, Linux %s, libfuse %s",
		fs->opt.store, fs->opt.mountpoint, without ? "off" : "on", without ? " (" : "",
		without ? without : "", without ? ")" : "", options_hold_name(&fs->opt),
		kernel.release, fuse_pkgversion());
	tell_parent(fs);
}

static const struct fuse_lowlevel_ops ops = {
	.init = fs_init,
	.lookup = names_lookup,
	.forget = names_forget,
	.forget_multi = names_forget_multi,
	.readlink = names_readlink,
	.mknod = names_mknod,
	.mkdir = names_mkdir,
	.symlink = names_symlink,
	.unlink = names_unlink,
	.rmdir = names_rmdir,
	.rename = names_rename,
	.link = names_link,
	.opendir = directory_open,
	.readdir = directory_read,
	.readdirplus = directory_read_plus,
	.releasedir = directory_release,
	.fsyncdir = directory_fsync,
	.getattr = attr_get,
	.setattr = attr_set,
	.statfs = attr_statfs,
	.getxattr = xattr_get,
	.listxattr = xattr_list,
	.setxattr = xattr_set,
	.removexattr = xattr_remove,
	.ioctl = ioctl_ioctl,
	.open = open_open,
	.create = open_create,
	.flush = open_flush,
	.release = open_release,
	.read = read_read,
	.lseek = read_lseek,
	.poll = poll_poll,
	.write = write_write,
	.fsync = write_fsync,
	.fallocate = write_fallocate,
	.copy_file_range = write_copy,
};

/* --- mounting ------------------------------------------------------------------------------- */

/* What libfuse says while it mounts becomes part of our one line. */
static char mount_message[256];
static bool mounting;

static void libfuse_says(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[256];

	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	if (mounting && level <= FUSE_LOG_ERR && !*mount_message)
		snprintf(mount_message, sizeof(mount_message), "%s",
			strncmp(text, "fuse: ", 6) ? text : text + 6);
	else if (!mounting)
		log_at(level <= FUSE_LOG_ERR ? LOG_WARN : LOG_TRACE, "libfuse: %s", text);
}

/* When root mounts, libfuse asks fusermount3 for it afterwards, and does not wait for an answer. */
static bool can_auto_unmount(const struct fs *fs)
{
	if (!fs->opt.auto_unmount)
		return false;
	if (geteuid() != 0 || fuse_version() < 315 || fusermount_knows_auto_unmount())
		return true;
	log_warn("option auto_unmount: fusermount3 is too old for libfuse %s, ignoring",
		fuse_pkgversion());
	return false;
}

static int add_mount_options(const struct fs *fs, struct fuse_args *args)
{
	autofree char *options = NULL, *text = NULL;

	if (asprintf(&text, "fsname=%s", fs->opt.store) < 0 ||
		fuse_opt_add_opt_escaped(&options, text) < 0)
		return -ENOMEM;
	free(steal_ptr(&text));
	if (asprintf(&text, "-osubtype=rwwfs,default_permissions,max_read=%u%s%s%s,%s",
		    (unsigned)fs->opt.max_read, geteuid() == 0 ? ",allow_other" : "",
		    can_auto_unmount(fs) ? ",auto_unmount" : "", fs->opt.debug ? ",debug" : "",
		    options) < 0)
		return -ENOMEM;
	if (fuse_opt_add_arg(args, "rwwfs") < 0 || fuse_opt_add_arg(args, text) < 0)
		return -ENOMEM;
	free(steal_ptr(&text));
	if (!fs->opt.mount_options)
		return 0;
	if (asprintf(&text, "-o%s", fs->opt.mount_options) < 0 || fuse_opt_add_arg(args, text) < 0)
		return -ENOMEM;
	return 0;
}

static int mount_session(struct fs *fs)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops all = ops;
	int r = add_mount_options(fs, &args);

	mounting = true;
	fuse_set_log_func(libfuse_says);
	if (r == 0) {
		compat_add_ops(&all);
		fs->session = fuse_session_new(&args, &all, sizeof(all), fs);
		if (!fs->session || fuse_session_mount(fs->session, fs->opt.mountpoint) < 0)
			r = -EIO;
	}
	mounting = false;
	fuse_opt_free_args(&args);
	/* fusermount3 has said it already, if it came to that */
	if (r < 0 && (*mount_message || geteuid() == 0))
		log_error("cannot mount on %s: %s", fs->opt.mountpoint,
			*mount_message ? mount_message : strerror(-r));
	return r;
}

/*
 * Unmounts, and tells whether the kernel has given up the filesystem. Then nobody has a file open:
 * every close was seen to its FLUSH, but RELEASE is a background request, and those that were not
 * read when the filesystem went are dropped (fs/fuse/inode.c: fuse_conn_destroy()). The kernel
 * looks for the filesystem of a notification before all else, and finds none; that our descriptor
 * is still open keeps a FLUSH from being lost before that.
 */
static bool unmount(struct fs *fs)
{
	struct {
		struct fuse_out_header head;
		struct fuse_notify_inval_inode_out about;
	} root = {
		.head = {.len = sizeof(root), .error = FUSE_NOTIFY_INVAL_INODE},
		.about = {.ino = FUSE_ROOT_ID, .off = -1},
	};
	autoclose int fd = fcntl(fuse_session_fd(fs->session), F_DUPFD_CLOEXEC, 0);

	fuse_session_unmount(fs->session);
	return fd >= 0 && write(fd, &root, sizeof(root)) < 0 && errno == ENOENT;
}

/*
 * As many descriptors as we may have, and as many threads as they suffice for: those that wait for
 * a disk leave others for who does not. Part of the descriptors is for directories. The last are
 * for /proc, any thread may ask there how a writer ended, so who has few descriptors gets few
 * threads; and for libfuse's pipes, one for each thread that splices, which it keeps.
 */
static size_t raise_descriptor_limit(struct fs *fs, int *ret_for_files)
{
	struct rlimit limit;
	rlim_t threads, ours;
	size_t room;

	*ret_for_files = 0;
	fs->threads = THREADS_USUAL;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 16;
	fs->splices = limit.rlim_max >= MANY;
	threads = limit.rlim_max / (limit.rlim_max < 4 * THREADS_USUAL ? 4 : 32);
	if (threads > THREADS_USUAL || limit.rlim_max < 4 * THREADS_USUAL)
		fs->threads = threads < LOOP_THREADS_MOST ? (unsigned)threads : LOOP_THREADS_MOST;
	if (fs->opt.single)
		fs->threads = 1;
	ours = fs->splices ? 3 * fs->threads : fs->threads;
	if (limit.rlim_max > ours && limit.rlim_max < INT_MAX)
		*ret_for_files = (int)(limit.rlim_max - ours);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("RLIMIT_NOFILE: %s, ignoring", strerror(errno));
	room = limit.rlim_max > 40 ? (size_t)(limit.rlim_max - 32) / 2 : 4;
	return room > 4096 ? 4096 : room;
}

static void block_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE: whoever wrote is told */
}

static void warn_of_unseen_ends(const struct fs *fs)
{
	const char *options = fs->opt.mount_options;

	if (fs->opt.abort_on == ABORT_ON_NEVER)
		return;
	if (fs->privileged && !creds_may_see_ends())
		log_warn("without CAP_SYS_PTRACE nobody tells how a process ended: the file of a "
			 "writer that is killed will look complete");
	else if (!fs->privileged && options && strstr(options, "allow_"))
		log_warn("only root is told how processes of others end: the file of a writer of "
			 "another user that is killed will look complete");
}

int fs_run(struct fs *fs)
{
	int for_files;
	size_t cached = raise_descriptor_limit(fs, &for_files);
	int root = openat(fs->store_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = root < 0 ? -errno : inode_table_init(&fs->inodes, root, cached);
	struct statvfs sv = {.f_bsize = 4096};

	if (r < 0) {
		log_error("store %s: %s", fs->opt.store, strerror(-r));
		return r;
	}
	fs->inodes.fd_limit = for_files;
	(void)fstatvfs(fs->store_fd, &sv); /* then 4096 it is */
	fs->block = sv.f_bsize <= 4096 ? 4096 : sv.f_bsize < 65536 ? sv.f_bsize : 65536;
	fs->privileged = geteuid() == 0;
	process_init();
	pthread_mutex_init(&fs->files_lock, NULL);
	status_init(fs);
	hold_init(&fs->hold);
	list_init(&fs->files);
	list_init(&fs->lingering);
	list_init(&fs->aborted);
	list_init(&fs->leftovers);
	fs->inodes.on_free = end_forget;
	fs->inodes.on_free_data = fs;
	block_signals();
	r = mount_session(fs);
	if (r == 0) {
		int completer = completer_start(fs), invalidator = invalidate_start(fs),
		    writeout = writeout_start(fs);

		warn_of_unseen_ends(fs);
		loop_init(fs);
		r = watch_start(fs);
		if (r == 0)
			r = completer ? completer : invalidator ? invalidator : writeout;
		if (r == 0) {
			r = loop_run(fs);
			if (!fs->serving)
				r = -EIO;
			else if (r == -ECONNABORTED)
				r = 0; /* unmounted while a request was being read */
		} else {
			log_error("cannot start a background thread: %s", strerror(-r));
		}
		invalidate_stop(fs);
		watch_stop(fs);
		if (unmount(fs))
			end_all_closed(fs);
		(void)end_linger(fs, true);
		writeout_stop(fs);
		completer_stop(fs);
		leftover_retry_all(fs);
		watch_done(fs);
		loop_done(fs);
	}
	if (fs->session)
		fuse_session_destroy(fs->session);
	if (fs->serving && fs->opt.pidfile)
		(void)unlink(fs->opt.pidfile); /* it may be gone already */
	inode_table_done(&fs->inodes);
	pthread_mutex_destroy(&fs->files_lock);
	return r;
}

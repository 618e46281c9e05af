/* SPDX-License-Identifier: MIT
 *
 * Requests as the kernel sends them to a FUSE session, for the disk and the control files: a small
 * device, without /dev/fuse. The input is a list of requests, each an opcode (a byte), a node (a
 * byte), a length (2 bytes) and as many bytes of arguments: the opcode's struct in linux/fuse.h and
 * what follows it. A write's data is repeated until there is as much as the struct says.
 *
 * Opcodes, nodes, offsets, sizes, flags and text are arbitrary; a request is as long as it says, as
 * libfuse relies on the kernel for that.
 *
 * Each request that has a reply gets one, with an error of the kernel's range or no more data than
 * was asked for. The disk holds what was written, and zeroes where it was punched out. What a
 * control file shows is text, and to a reader with a handle the same text until it starts again.
 * The supervisor is asked for something as often as "1" (for sleep, "0", for stop, "force", too)
 * has been written to the files that ask, or "cancel" to stop, and anything else written to them is
 * an error.
 *
 * A request's handle is one that an earlier request has got, or an arbitrary number.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FUSE_USE_VERSION 314
#include "server/control/attributes.h"
#include "server/front/fuse_ops.h"
#include "server/latency.h"
#include "shared/shared.h"

#define PAGE	    4096u
#define DISK	    (16u * PAGE)
#define REQUESTS    32u
#define REQUEST_MAX (FUSE_OPS_IO_MAX + 8192)
#define DISK_INO    2

static const struct config config = {
	.name = "fuzz", .workers = 1, .disk_user = 1, .disk_group = 2, .disk_mode = 0640};
static struct state state = {.supervisor = 1, .since = 1};
static struct status status;
static struct latency latency;
static struct uz_arena *arena;
static struct fuse_thread thread;
static pthread_t main_thread;
static int supervisor;	       /* its end of the socket */
static _Atomic unsigned asked; /* what for, it does not matter */

static unsigned char disk[DISK]; /* what it should hold */

/* --- replies, which the control thread gives, too --- */

static struct reply {
	bool expected, given;
	bool asks; /* the supervisor, unless the control thread has too much to do */
	int error;
	size_t len;
} replies[REQUESTS + 1];		    /* by the request's number, from 1 on */
static unsigned char data[FUSE_OPS_IO_MAX]; /* of the main thread's last reply */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t replied = PTHREAD_COND_INITIALIZER;

static size_t gather(const struct iovec *iov, int count, void *to, size_t room)
{
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		REQUIRE(iov[i].iov_len <= room - len, "a reply of more than %zu bytes", room);
		if (iov[i].iov_len)
			memcpy((char *)to + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return len;
}

static ssize_t on_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	unsigned char later[sizeof(struct fuse_write_out)];
	bool now = pthread_equal(pthread_self(), main_thread);
	struct reply *r;

	REQUIRE(iov[0].iov_len == sizeof(*out), "a reply without a header");
	REQUIRE(out->unique && out->unique <= REQUESTS, "a reply to request %zu",
		(size_t)out->unique);
	REQUIRE(out->error <= 0 && out->error > -512, "error %d", out->error);
	pthread_mutex_lock(&lock);
	r = &replies[out->unique];
	REQUIRE(r->expected && !r->given, "a reply that nobody waits for");
	r->given = true;
	r->error = out->error;
	r->len = gather(iov + 1, count - 1, now ? data : later, now ? sizeof(data) : sizeof(later));
	REQUIRE(out->len == sizeof(*out) + r->len, "%u bytes", out->len);
	REQUIRE(!r->error || !r->len, "an error with data");
	pthread_cond_broadcast(&replied);
	pthread_mutex_unlock(&lock);
	return out->len;
}

static void await(struct reply *r)
{
	pthread_mutex_lock(&lock);
	while (!r->given)
		pthread_cond_wait(&replied, &lock);
	pthread_mutex_unlock(&lock);
}

static ssize_t no_read(int fd, void *buf, size_t len, void *userdata)
{
	return -1;
}

static const struct fuse_custom_io io = {.writev = on_reply, .read = no_read};

/* --- the supervisor --- */

static void *supervise(void *arg)
{
	enum request request;

	while (recv(supervisor, &request, sizeof(request), 0) == sizeof(request)) {
		int result = request == REQUEST_STOP ? -EPERM : 0;

		asked++;
		REQUIRE(request >= REQUEST_STOP && request <= REQUEST_RESET, "%d", request);
		if (request != REQUEST_STOP_CANCEL)
			send(supervisor, &result, sizeof(result), MSG_NOSIGNAL);
	}
	return NULL;
}

/* --- readers of control files --- */

static struct reader {
	uint64_t handle, node;
	size_t known; /* bytes of its text that it has seen */
	char text[CONTROL_TEXT_MAX];
} readers[REQUESTS];
static unsigned reader_count;

static struct reader *find_reader(uint64_t handle, uint64_t node)
{
	for (unsigned i = 0; i < reader_count; i++) {
		if (readers[i].handle == handle && readers[i].node == node)
			return &readers[i];
	}
	return NULL;
}

/* A small number stands for a handle that there is. */
static uint64_t choose_handle(uint64_t number)
{
	return number < reader_count ? readers[number].handle : number;
}

/* --- requests --- */

/* The length of an opcode's struct, and whether a name or data may follow that the struct doesn't
 * tell the length of. */
static size_t args_size(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_GETATTR:
		return sizeof(struct fuse_getattr_in);
	case FUSE_SETATTR:
		return sizeof(struct fuse_setattr_in);
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return sizeof(struct fuse_read_in);
	case FUSE_WRITE:
		return sizeof(struct fuse_write_in);
	case FUSE_FALLOCATE:
		return sizeof(struct fuse_fallocate_in);
	default:
		return 128; /* more than any other has */
	}
}

static bool has_reply(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* Of libfuse's own state, or with lengths in what follows the struct. */
static bool is_left_out(uint32_t opcode)
{
	return opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_INTERRUPT ||
	       opcode == FUSE_NOTIFY_REPLY || opcode == FUSE_BATCH_FORGET;
}

static struct fuse_in_header *request(void)
{
	return (struct fuse_in_header *)thread.request;
}

static void *args(void)
{
	return thread.request + sizeof(struct fuse_in_header);
}

/* Make size bytes of the len that there are, by repetition. */
static void repeat(unsigned char *bytes, size_t len, size_t size)
{
	if (!len)
		bytes[len++] = 0;
	for (size_t i = len; i < size; i++)
		bytes[i] = bytes[i - len];
}

/* The kernel's limits, and the data. Returns the request's length. */
static size_t complete_write(size_t len)
{
	struct fuse_write_in *in = args();

	in->offset &= INT64_MAX;
	if (in->size > FUSE_OPS_IO_MAX)
		in->size = FUSE_OPS_IO_MAX;
	repeat((unsigned char *)(in + 1), len - sizeof(*in), in->size);
	return sizeof(*request()) + sizeof(*in) + in->size;
}

static void make_request(struct input *in, uint64_t unique)
{
	struct fuse_in_header *h = request();
	uint8_t opcode = input_byte(in), node = input_byte(in) % 32;
	uint16_t len;
	size_t size;

	input_take(in, &len, sizeof(len));
	if (len > in->left)
		len = (uint16_t)in->left;
	memset(h, 0, sizeof(*h) + args_size(opcode) + len + 1);
	input_take(in, args(), len);
	size = args_size(opcode) > len ? args_size(opcode) : len;
	*h = (struct fuse_in_header){.opcode = opcode, .nodeid = node, .unique = unique};
	h->len = (uint32_t)(opcode == FUSE_WRITE ? complete_write(size) : sizeof(*h) + size);
}

static void choose_handles(void)
{
	if (request()->opcode == FUSE_READ)
		((struct fuse_read_in *)args())->fh =
			choose_handle(((struct fuse_read_in *)args())->fh);
	if (request()->opcode == FUSE_RELEASE)
		((struct fuse_release_in *)args())->fh =
			choose_handle(((struct fuse_release_in *)args())->fh);
}

static struct reply *send_request(void)
{
	struct fuse_buf buf = {.mem = request(), .size = request()->len};
	struct reply *r = &replies[request()->unique];

	*r = (struct reply){.asks = r->asks, .expected = has_reply(request()->opcode)};
	fuse_session_process_buf(thread.session, &buf);
	return r;
}

/* --- what the disk's requests should do --- */

static void check_read(uint64_t off, uint64_t size)
{
	struct reply *r = send_request();
	uint64_t left = off < DISK ? DISK - off : 0;

	REQUIRE(r->given && !r->error, "error %d", r->error);
	REQUIRE(r->len == (size < left ? size : left), "%zu bytes of %zu", r->len, (size_t)size);
	REQUIRE(!r->len || !memcmp(data, disk + off, r->len), "other bytes than were written");
}

static void check_write(void)
{
	struct fuse_write_in in = *(struct fuse_write_in *)args();
	const unsigned char *bytes = (unsigned char *)args() + sizeof(in);
	uint64_t left = in.offset < DISK ? DISK - in.offset : 0;
	uint64_t size = in.size < left ? in.size : left;
	struct reply *r = send_request();
	struct fuse_write_out out;

	REQUIRE(r->given, "no reply");
	if (!left) {
		REQUIRE(!in.size || r->error == -ENOSPC, "error %d behind the end", r->error);
		return;
	}
	REQUIRE(!r->error && r->len == sizeof(out), "error %d", r->error);
	memcpy(&out, data, sizeof(out));
	REQUIRE(out.size == size, "%u bytes of %zu", out.size, (size_t)size);
	memcpy(disk + in.offset, bytes, size);
}

/* The kernel sees to it that the end is a file's offset. */
static void check_fallocate(void)
{
	struct fuse_fallocate_in *in = args();
	uint32_t zero = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE, mode = in->mode;
	uint64_t from = in->offset &= INT64_MAX, end = from + (in->length &= INT64_MAX);
	struct reply *r = send_request();

	REQUIRE(r->given, "no reply");
	if (mode & ~(zero | FALLOC_FL_KEEP_SIZE)) {
		REQUIRE(r->error == -EOPNOTSUPP, "error %d for mode %x", r->error, mode);
	} else if (end > DISK && !(mode & zero && mode & FALLOC_FL_KEEP_SIZE)) {
		REQUIRE(r->error == -ENOSPC, "error %d behind the end", r->error);
	} else {
		REQUIRE(!r->error, "error %d", r->error);
		end = end < DISK ? end : DISK;
		if (mode & zero && from < end)
			memset(disk + from, 0, end - from);
	}
}

static void check_disk(void)
{
	struct fuse_read_in *in = args();

	switch (request()->opcode) {
	case FUSE_READ:
		check_read(in->offset, in->size);
		break;
	case FUSE_WRITE:
		check_write();
		break;
	default:
		check_fallocate();
	}
}

/* --- the others' --- */

static void check_entries(size_t len)
{
	size_t at = 0;

	while (at < len) {
		const struct fuse_dirent *d = (struct fuse_dirent *)(data + at);

		REQUIRE(len - at >= FUSE_NAME_OFFSET && len - at >= FUSE_DIRENT_SIZE(d),
			"half an entry");
		REQUIRE(d->namelen && !memchr(d->name, 0, d->namelen), "a name");
		at += FUSE_DIRENT_SIZE(d);
	}
}

static void check_text(size_t len)
{
	for (size_t i = 0; i < len; i++)
		REQUIRE(data[i] == '\n' || (data[i] >= ' ' && data[i] < 0x7f), "byte %02x",
			data[i]);
}

static const char *file_name(uint64_t node)
{
	for (unsigned i = 0; i < control_attribute_count; i++) {
		if (control_attributes[i].number == node)
			return control_attributes[i].name;
	}
	return "";
}

/* Whether these bytes, written to the control file, ask the supervisor for something. */
static bool asks(const char *file, const char *bytes, size_t size)
{
	static const struct {
		const char *file, *word;
	} words[] = {{"stop", ""},     {"stop", "1"},  {"stop", "force"}, {"stop", "cancel"},
		     {"upgrade", "1"}, {"sleep", "1"}, {"sleep", "0"},	  {"reset", "1"}};

	while (size && memchr(" \t\n", bytes[size - 1], 3))
		size--;
	while (size && memchr(" \t\n", *bytes, 3)) {
		bytes++;
		size--;
	}
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcmp(words[i].file, file) && strlen(words[i].word) == size &&
		    !memcmp(words[i].word, bytes, size))
			return true;
	}
	return false;
}

/* The reply may come later. The limit is lifted at once, since no write is to fail. */
static void check_control_write(void)
{
	const struct fuse_write_in *in = args();
	struct reply *r = &replies[request()->unique];
	struct uz_store_stat st;

	r->asks = asks(file_name(request()->nodeid), (const char *)(in + 1), in->size);
	send_request();
	uz_store_stat(thread.store, &st);
	REQUIRE(st.mem_limit <= INT64_MAX, "%zu", (size_t)st.mem_limit);
	uz_store_set_limit(thread.store, 0);
}

/* What is not answered may still be on its way. */
static void check_asked(void)
{
	unsigned want = 0;

	for (unsigned i = 1; i <= REQUESTS; i++)
		want += replies[i].asks && replies[i].error != -EBUSY;
	while (asked < want)
		sched_yield();
	REQUIRE(asked == want, "%u, not %u", asked, want);
	asked = 0;
}

/* --- what readers of control files see --- */

static void check_open(uint64_t node, int error)
{
	static uint64_t last;
	struct fuse_open_out out;

	if (error) {
		REQUIRE(error == -EACCES && *file_name(node), "error %d", error);
		return;
	}
	memcpy(&out, data, sizeof(out));
	if (!out.fh)
		return;
	REQUIRE(*file_name(node) && out.fh > last, "handle %zu after %zu", (size_t)out.fh,
		(size_t)last);
	last = out.fh;
	readers[reader_count++] = (struct reader){.handle = out.fh, .node = node};
}

static void check_text_read(const struct fuse_read_in *in, uint64_t node, const struct reply *r)
{
	struct reader *reader = find_reader(in->fh, node);

	if (r->error) {
		REQUIRE(r->error == -EIO || (r->error == -ESTALE && in->offset), "error %d",
			r->error);
		return;
	}
	check_text(r->len);
	REQUIRE(in->offset + r->len <= CONTROL_TEXT_MAX || !r->len, "%zu bytes", r->len);
	if (!reader || (!r->len && in->offset == in->fh % CONTROL_TEXT_MAX))
		return; /* that is the end of the text it was opened with */
	if (!in->offset) {
		memcpy(reader->text, data, r->len);
		reader->known = r->len;
	} else if (in->offset < reader->known) {
		size_t same = reader->known - in->offset;

		REQUIRE(!memcmp(reader->text + in->offset, data, same < r->len ? same : r->len),
			"another text");
		REQUIRE(r->len >= (same < in->size ? same : in->size), "a shorter text");
	}
}

static void check_other(void)
{
	const struct fuse_in_header h = *request();
	const struct fuse_read_in in = *(struct fuse_read_in *)args();
	struct reply *r = send_request();

	REQUIRE(r->given == has_reply(h.opcode), "opcode %u", h.opcode);
	if (h.opcode == FUSE_OPEN)
		check_open(h.nodeid, r->error);
	if (h.opcode == FUSE_READ)
		check_text_read(&in, h.nodeid, r);
	if (!r->given || r->error)
		return;
	if (h.opcode == FUSE_READ || h.opcode == FUSE_READDIR)
		REQUIRE(r->len <= in.size, "%zu bytes", r->len);
	if (h.opcode == FUSE_READDIR)
		check_entries(r->len);
}

static void check_request(void)
{
	uint32_t opcode = request()->opcode;

	if (request()->nodeid == DISK_INO &&
	    (opcode == FUSE_READ || opcode == FUSE_WRITE || opcode == FUSE_FALLOCATE))
		check_disk();
	else if (opcode == FUSE_WRITE)
		check_control_write();
	else
		check_other();
}

/* --- */

static void set_up(void)
{
	struct uz_store_config store = {
		.size = sizeof(store),
		.codec = UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 64 * DISK,
		.deferred = true,
		.defer_spares = 1,
		.defer_age_ms = 10,
	};
	pthread_t thread_id;
	int ends[2];

	main_thread = pthread_self();
	REQUIRE(!uz_arena_new(DISK, &arena), "no arena");
	store.arena = arena;
	REQUIRE(!uz_store_new(&store, &thread.store), "no store");
	REQUIRE(!uz_worker_new(thread.store, &thread.worker), "no worker");
	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "no socket");
	supervisor = ends[1];
	REQUIRE(!pthread_create(&thread_id, NULL, supervise, NULL), "no thread");
	REQUIRE(!latency_init(&latency, -1, LATENCY_HOLD_NEVER), "latency");
	thread.latency = &latency;
	REQUIRE(!control_new(&config, thread.store, &state, &status, ends[0], &latency,
			     &thread.control),
		"no control");
	thread.request = malloc(REQUEST_MAX);
	thread.reply = malloc(FUSE_OPS_IO_MAX);
}

static void session_new(void)
{
	char *argv[] = {(char[]){"fuzz"}, NULL};
	struct fuse_args fuse_args = FUSE_ARGS_INIT(1, argv);
	struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION,
				    .minor = FUSE_KERNEL_MINOR_VERSION,
				    .max_readahead = 1 << 17};

	thread.session = fuse_session_new(&fuse_args, &fuse_ops, sizeof(fuse_ops), &thread);
	fuse_opt_free_args(&fuse_args);
	REQUIRE(thread.session, "no session");
	REQUIRE(!fuse_session_custom_io(thread.session, &io, open("/dev/null", O_RDWR)), "io");
	*request() = (struct fuse_in_header){.opcode = FUSE_INIT,
					     .unique = 1,
					     .len = sizeof(struct fuse_in_header) + sizeof(init)};
	memcpy(args(), &init, sizeof(init));
	REQUIRE(!send_request()->error, "INIT");
}

/* All slow control writes have been answered; and the disk is as it should be, and then as it was.
 */
static void finish(void)
{
	for (unsigned i = 1; i <= REQUESTS; i++) {
		if (replies[i].expected)
			await(&replies[i]);
	}
	check_asked();
	*request() = (struct fuse_in_header){
		.opcode = FUSE_READ, .nodeid = DISK_INO, .unique = 1, .len = 80};
	*(struct fuse_read_in *)args() = (struct fuse_read_in){.size = DISK};
	check_read(0, DISK);
	fuse_session_destroy(thread.session);
	REQUIRE(!uz_discard(thread.worker, 0, DISK), "discard");
	memset(disk, 0, sizeof(disk));
	memset(replies, 0, sizeof(replies));
	reader_count = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct input in = {bytes, len};

	if (!thread.store)
		set_up();
	session_new();
	for (uint64_t unique = 1; unique <= REQUESTS && in.left; unique++) {
		make_request(&in, unique);
		replies[unique].asks = false;
		if (is_left_out(request()->opcode))
			continue;
		choose_handles();
		check_request();
	}
	finish();
	return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * Arbitrary control files of a device, as uzramctl list and stat read them: a server that was
 * taken over can make them say anything. The input is text: a line "%NAME" begins the file NAME,
 * and what follows, up to the next such line, is in it. Other files are not there. With a line
 * "%hang" the daemon does not answer.
 *
 * Numbers that are taken are those that the file begins with, in full; a file that doesn't is an
 * error, and changes nothing. What is printed is printable ASCII, from which one gets back what was
 * there; and of JSON each string ends where it should. A size for people to read is the number,
 * rounded.
 */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"

#define DEVICE "fuzz"

static const char *const files[] = {"disksize",	      "max_comp_streams", "mm_stat",
				    "comp_algorithm", "block_device",	  "pid",
				    "io_stat",	      "defer_stat"};
#define FILES (sizeof(files) / sizeof(files[0]))

static char rundir[PATH_MAX], devicedir[PATH_MAX + sizeof("/" DEVICE)];
static int dir_fd;
static int failed; /* what ctl_fail() was told last */
static bool hangs;

/* uzramctl.c's: it says the same for people to read. */
int ctl_fail(const char *device, const char *what, int err)
{
	REQUIRE(err < 0, "%s: %s: %d", device, what, err);
	failed = err;
	return EXIT_FAILURE;
}

/* bounded.c's, in this process. */
int ctl_bounded(int (*fn)(void *arg, void *ret), void *arg, void *ret, size_t size,
		int64_t deadline)
{
	return hangs ? -ETIMEDOUT : fn(arg, ret);
}

int64_t ctl_now_ms(void)
{
	return 0;
}

/* --- the files --- */

/* The text of the file of that name in the input; NULL: there is none. */
static const char *find_file(const char *text, size_t len, const char *name, size_t *ret_len)
{
	const char *end = text + len, *line = text, *start = NULL, *next;

	for (; line < end; line = next) {
		next = memchr(line, '\n', (size_t)(end - line));
		next = next ? next + 1 : end;
		if (*line != '%')
			continue;
		if (start)
			break;
		if ((size_t)(next - line) == strlen(name) + 2 &&
		    !memcmp(line + 1, name, strlen(name)))
			start = next;
	}
	*ret_len = start ? (size_t)(line - start) : 0;
	return start;
}

static void make_file(const char *text, size_t len, const char *name)
{
	size_t size;
	const char *content = find_file(text, len, name, &size);
	int fd;

	unlinkat(dir_fd, name, 0);
	if (!content)
		return;
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	REQUIRE(fd >= 0 && write(fd, content, size) == (ssize_t)size, "%s/%s", devicedir, name);
	close(fd);
}

/* --- reading --- */

/* The file begins with count decimal numbers, which are those in ret. */
static void check_numbers(const char *text, size_t len, const char *name, const uint64_t *ret,
			  unsigned count)
{
	size_t size, i = 0;
	const char *content = find_file(text, len, name, &size);

	REQUIRE(content, "numbers of a file that is not there");
	while (count--) {
		unsigned __int128 value = 0;

		while (i < size && content[i] == ' ')
			i++;
		REQUIRE(i < size && isdigit((unsigned char)content[i]), "%s: number or not", name);
		for (; i < size && isdigit((unsigned char)content[i]) && value <= UINT64_MAX; i++)
			value = value * 10 + (unsigned)(content[i] - '0');
		REQUIRE(value == *ret, "%s: %" PRIu64, name, *ret);
		ret++;
	}
}

static void check_printable(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		REQUIRE((*c >= ' ' || *c == '\n') && *c < 0x7f, "%02x is printed", *c);
}

/* All of it can be read back, up to where it is cut. */
static void check_escape(const char *bytes, size_t len, size_t room)
{
	char text[512], escaped[4 * sizeof(text)], *at = escaped;
	size_t i = 0;

	snprintf(text, sizeof(text), "%.*s", (int)(len < 511 ? len : 511), bytes);
	ctl_escape(text, escaped, room);
	REQUIRE(strlen(escaped) < room, "%zu bytes", strlen(escaped));
	check_printable(escaped);
	REQUIRE(!strchr(escaped, '\n'), "a newline");
	for (; *at; i++) {
		char hex[3] = {0}, byte = *at;

		if (*at == '\\')
			byte = (char)strtoul(memcpy(hex, at + 2, 2), NULL, 16);
		REQUIRE(byte == text[i], "%02x is shown as %.4s", text[i], at);
		at += *at == '\\' ? 4 : 1;
	}
	REQUIRE(!text[i] || at - escaped + 4 >= (ptrdiff_t)room, "cut at %zu", i);
}

static void check_size_text(uint64_t bytes)
{
	char text[CTL_SIZE_TEXT], *unit;
	double value, factor = 1;

	ctl_size_text(bytes, true, text);
	REQUIRE(strtoull(text, &unit, 10) == bytes && !*unit, "%s", text);
	ctl_size_text(bytes, false, text);
	value = strtod(text, &unit);
	for (const char *u = "BKMGTPE"; *u != *unit; u++, factor *= 1024)
		REQUIRE(*u, "%s", text);
	REQUIRE(!unit[1] && value <= 1024, "%s", text);
	value = value * factor - (double)bytes;
	REQUIRE(value <= 0.06 * factor && value >= -0.06 * factor, "%s is %" PRIu64, text, bytes);
}

static void check_device(const char *text, size_t len)
{
	struct ctl_device d, untouched;
	int err;

	memset(&d, 0xa5, sizeof(d));
	untouched = d;
	err = ctl_device_load(DEVICE, &d);
	if (err) {
		REQUIRE(err == -EBADMSG || err == -ENOENT, "%d", err);
		REQUIRE(!memcmp(&d, &untouched, sizeof(d)), "a device with an error");
		return;
	}
	check_numbers(text, len, "disksize", &d.size, 1);
	check_numbers(text, len, "max_comp_streams", &d.workers, 1);
	check_numbers(text, len, "mm_stat", d.mm, MM_COLUMNS);
	for (unsigned i = 0; i < MM_COLUMNS; i++)
		check_size_text(d.mm[i]);
	REQUIRE(strlen(d.algorithm) < sizeof(d.algorithm), "algorithm");
	REQUIRE(strlen(d.block_device) < sizeof(d.block_device), "block_device");
}

/* --- printing --- */

/* What verb prints, to be freed. */
static char *output_of(int (*verb)(const struct ctl_args *), const struct ctl_args *args,
		       int *ret_status)
{
	FILE *real = stdout;
	char *text;
	size_t len;

	failed = 0;
	stdout = open_memstream(&text, &len);
	REQUIRE(stdout, "no memory");
	*ret_status = verb(args);
	fclose(stdout);
	stdout = real;
	REQUIRE(strlen(text) == len, "a zero byte is printed");
	return text;
}

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void check_json(const char *text)
{
	bool string = false;
	int depth = 0;

	for (; *text; text++) {
		if (string && *text == '\\') {
			text++;
			REQUIRE(strchr("\"\\/bfnrtu", *text) && *text, "\\%c", *text);
		} else if (*text == '"') {
			string = !string;
		} else if (!string) {
			REQUIRE(strchr("{}[]:,.-0123456789truefalsn \n", *text), "%c in JSON",
				*text);
			depth += *text == '{' || *text == '[';
			depth -= *text == '}' || *text == ']';
		}
	}
	REQUIRE(!string && !depth, "JSON has no end");
}

static void check_list(bool json, bool bytes)
{
	const struct ctl_args args = {.json = json, .bytes = bytes, .noheadings = true};
	int status;
	char *text = output_of(ctl_list, &args, &status);

	check_printable(text);
	REQUIRE((status != EXIT_SUCCESS) == (failed != 0), "status %d, error %d", status, failed);
	REQUIRE(!hangs || strstr(text, DEVICE), "a device that hangs is not listed");
	if (json)
		check_json(text);
	else
		REQUIRE(count_lines(text) <= 1, "%s", text);
	free(text);
}

static void check_stat(const char *input, size_t len, bool bytes)
{
	static const char *const numbers[] = {"pid", "io_stat", "defer_stat"};
	static const unsigned columns[] = {1, 4, 7};
	const struct ctl_args args = {.device = DEVICE, .bytes = bytes};
	int status;
	char *text = output_of(ctl_stat, &args, &status);

	check_printable(text);
	REQUIRE((status != EXIT_SUCCESS) == (failed != 0), "status %d, error %d", status, failed);
	REQUIRE(!failed == !!*text, "error %d with text", failed);
	for (unsigned i = 0; i < 3 && !failed; i++) {
		uint64_t ret[7];

		REQUIRE(!ctl_read_numbers(DEVICE, numbers[i], ret, columns[i]), "%s", numbers[i]);
		check_numbers(input, len, numbers[i], ret, columns[i]);
	}
	free(text);
}

/* --- */

static void clean_up(void)
{
	for (unsigned i = 0; i < FILES; i++)
		unlinkat(dir_fd, files[i], 0);
	rmdir(devicedir);
	rmdir(rundir);
}

static void set_up(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(rundir, sizeof(rundir), "%s/fuzz_ctl.XXXXXX", tmp ? tmp : "/tmp");
	REQUIRE(mkdtemp(rundir), "%s", rundir);
	snprintf(devicedir, sizeof(devicedir), "%s/" DEVICE, rundir);
	REQUIRE(!mkdir(devicedir, 0700), "%s", devicedir);
	dir_fd = open(devicedir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(dir_fd >= 0, "%s", devicedir);
	setenv("UZRAM_RUNDIR", rundir, 1);
	atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	size_t size;

	if (!*rundir)
		set_up();
	for (unsigned i = 0; i < FILES; i++)
		make_file(text, len, files[i]);
	hangs = find_file(text, len, "hang", &size);
	check_escape(text, len, 4 * 512);
	check_escape(text, len, 1 + len % 100);
	check_device(text, len);
	for (unsigned i = 0; i < 4; i++)
		check_list(i & 1, i & 2);
	check_stat(text, len, false);
	check_stat(text, len, true);
	return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * uzramctl: look at uzram's devices and tell them what to do, through their control files.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"

static const struct verb {
	const char *name;
	const char *options; /* those that it takes, beside --timeout: their letters below */
	bool device;
	int seconds; /* the default of --timeout */
	int (*run)(const struct ctl_args *args);
	const char *help;
} verbs[] = {
	{"list", "bJn", false, 2, ctl_list,
	 "list the devices, in the columns of zramctl (the default)"},
	{"stat", "b", true, 10, ctl_stat, "show all figures of a device"},
	{"compact", "", true, 600, ctl_compact,
	 "move stored pages together and free what that empties"},
	{"flush", "", true, 60, ctl_flush, "wait until all deferred frees are done"},
	{"stop", "fc", true, 600, ctl_stop, "swapoff, end the daemon and wait until it is gone"},
	{"upgrade", "", true, 120, ctl_upgrade,
	 "go on with the uzramd and the configuration that are installed now"},
	{"sleep", "", false, 600, ctl_sleep,
	 "swapoff all devices, as their configurations want it"},
	{"wake", "", false, 600, ctl_wake, "swapon what sleep has taken out of use"},
};
#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const struct option options[] = {
	{"bytes", no_argument, NULL, 'b'},
	{"json", no_argument, NULL, 'J'},
	{"noheadings", no_argument, NULL, 'n'},
	{"force", no_argument, NULL, 'f'},
	{"cancel", no_argument, NULL, 'c'},
	{"timeout", required_argument, NULL, 't'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

static const char *explain(int err)
{
	switch (err) {
	case -ENOTCONN:
	case -ECONNABORTED:
		return "its daemon is dead";
	case -EBADMSG:
	case -ENOSYS:
		return "its daemon is not of this version of uzram";
	case -EPROTO:
		return "refused; its log says why";
	case -ETIMEDOUT:
		return "timed out; its daemon does not answer";
	default:
		return strerror(-err);
	}
}

int ctl_complain(const char *device, const char *what, const char *why)
{
	char escaped[4 * PATH_MAX];

	fprintf(stderr, "uzramctl: %s: %s: %s\n", ctl_escape(device, escaped, sizeof(escaped)),
		what, why);
	return EXIT_FAILURE;
}

int ctl_fail(const char *device, const char *what, int err)
{
	char escaped[4 * NAME_MAX + 1];

	if (err != -ENOENT)
		return ctl_complain(device, what, explain(err));
	ctl_escape(device, escaped, sizeof(escaped));
	fprintf(stderr, "uzramctl: %s: no such device (is uzramd@%s running?)\n", escaped, escaped);
	return CTL_EXIT_NO_DEVICE;
}

static void print_help(void)
{
	printf("Usage: uzramctl [list] [-b] [-J] [-n]\n"
	       "       uzramctl VERB [options] NAME\n\n"
	       "Look at uzram's devices and tell them what to do.\n\nVerbs:\n");
	for (unsigned i = 0; i < VERBS; i++)
		printf("  %-8s %-5s %s\n", verbs[i].name, verbs[i].device ? "NAME" : "",
		       verbs[i].help);
	printf("\nOptions:\n"
	       "  -b, --bytes            list, stat: sizes in bytes\n"
	       "  -J, --json             list: as JSON\n"
	       "  -n, --noheadings       list: without headings\n"
	       "      --force            stop: though the pages may not fit into memory\n"
	       "      --cancel           stop: call off one that somebody waits for\n"
	       "  -t, --timeout SECONDS  wait no longer for a device; by default:");
	for (unsigned i = 0; i < VERBS; i++)
		printf("%s %s %d", i % 4 ? "," : "\n                        ", verbs[i].name,
		       verbs[i].seconds);
	printf("\n"
	       "  -h, --help             this text\n"
	       "  -V, --version          the version\n");
}

static int usage_error(const char *what, const char *argument)
{
	fprintf(stderr, "uzramctl: %s%s%s\nTry 'uzramctl --help'.\n", what, argument ? ": " : "",
		argument ? argument : "");
	return CTL_EXIT_USAGE;
}

static const struct verb *find_verb(const char *name)
{
	for (unsigned i = 0; i < VERBS; i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static bool parse_seconds(const char *text, int *ret_ms)
{
	char *end;
	long seconds = strtol(text, &end, 10);

	if (end == text || *end || seconds < 0 || seconds > INT_MAX / 1000)
		return false;
	*ret_ms = (int)seconds * 1000;
	return true;
}

/* Returns -1 if args is complete and the verb is to be run, else the exit status. */
static int parse(const struct verb *verb, int argc, char **argv, struct ctl_args *args)
{
	int c;

	while ((c = getopt_long(argc, argv, "bJnt:hV", options, NULL)) != -1) {
		if (c == 'h') {
			print_help();
			return EXIT_SUCCESS;
		}
		if (c == 'V') {
			puts("uzramctl " UZ_VERSION);
			return EXIT_SUCCESS;
		}
		if (c == '?') /* getopt has said why */
			return CTL_EXIT_USAGE;
		if (c != 't' && !strchr(verb->options, c))
			return usage_error("not an option of this verb", argv[optind - 1]);
		args->bytes |= c == 'b';
		args->json |= c == 'J';
		args->noheadings |= c == 'n';
		args->force |= c == 'f';
		args->cancel |= c == 'c';
		if (c == 't' && !parse_seconds(optarg, &args->timeout))
			return usage_error("not a number of seconds", optarg);
	}
	if (args->force && args->cancel)
		return usage_error("--force and --cancel exclude each other", NULL);
	if (argc - optind < verb->device)
		return usage_error("the device's name is missing", NULL);
	if (argc - optind > verb->device)
		return usage_error("one argument too many", argv[optind + verb->device]);
	args->device = verb->device ? argv[optind] : NULL;
	return -1;
}

int main(int argc, char **argv)
{
	const struct verb *verb = &verbs[0];
	struct ctl_args args = {0};
	int status;

	if (argc > 1 && *argv[1] != '-') {
		verb = find_verb(argv[1]);
		if (!verb)
			return usage_error("unknown verb", argv[1]);
		argv[1] = argv[0]; /* which getopt's messages begin with */
		argv++;
		argc--;
	}
	args.timeout = verb->seconds * 1000;
	status = parse(verb, argc, argv, &args);
	return status < 0 ? verb->run(&args) : status;
}

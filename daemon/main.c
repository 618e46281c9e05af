/* SPDX-License-Identifier: MIT
 *
 * uzramd: the command line.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "config/machine.h"
#include "shared/log.h"
#include "supervisor/handover.h"
#include "supervisor/supervisor.h"

static const char usage[] =
	"Usage: uzramd --config FILE [--check]\n"
	"\n"
	"Serve a compressed swap device, or VM disk, as FILE (TOML) describes it, until SIGTERM.\n"
	"\n"
	"  -c, --config FILE  the configuration; see uzram.toml(5)\n"
	"      --check        only check the configuration\n"
	"  -h, --help         print this\n"
	"  -V, --version      print the version\n";

struct arguments {
	const char *config;
	bool check;
	/* Of which uzramd makes use when it execs itself; descriptors, or -1. */
	int resume;   /* a state (shared.h) */
	int stand_by; /* the socket of a server that is to stand by */
};

static int usage_error(void)
{
	fputs(usage, stderr);
	return 2;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'C'},
		{"resume", required_argument, NULL, 'R'},
		{"stand-by", required_argument, NULL, 'S'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			args->config = optarg;
			break;
		case 'C':
			args->check = true;
			break;
		case 'R':
			args->resume = atoi(optarg);
			break;
		case 'S':
			args->stand_by = atoi(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		case 'V':
			puts("uzramd " UZ_VERSION);
			return EXIT_SUCCESS;
		default:
			return usage_error();
		}
	}
	return args->config && optind == argc ? -1 : usage_error();
}

/* The state of a device that is there already, or NULL. */
static int find_state(const struct arguments *args, struct state **ret)
{
	int err;

	if (args->stand_by >= 0)
		err = shared_adopt(args->resume, ret);
	else if (args->resume >= 0)
		err = handover_from_exec(args->resume, ret);
	else
		err = handover_from_manager(ret);

	if (err && err != -ENOENT)
		log_error("can't go on with a device of another version of uzramd");
	return err == -ENOENT ? 0 : err;
}

/* Absolute, for a later exec, which reads what the path leads to by then: symbolic links stay in
 * it, and a file that is not there now may be. */
static int make_absolute(const char *path, char ret[PATH_MAX])
{
	char dir[PATH_MAX] = "";

	if (path[0] != '/' && !getcwd(dir, sizeof(dir)))
		return -errno;
	if (snprintf(ret, PATH_MAX, "%s%s%s", dir, dir[0] ? "/" : "", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

static int run(const struct arguments *args, struct config *config, struct state *state)
{
	static char binary_path[PATH_MAX], config_path[PATH_MAX]; /* zeroed */
	const struct launch launch = {binary_path, config_path, args->resume >= 0};
	int err = make_absolute(args->config, config_path);

	if (err) {
		log_error("can't tell where %s is: %s", args->config, strerror(-err));
		return EXIT_FAILURE;
	}
	if (readlink("/proc/self/exe", binary_path, sizeof(binary_path) - 1) < 0) {
		log_error("can't tell where this program is: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	if (state && handover_check(config, state, args->resume < 0))
		return EXIT_FAILURE;
	if (args->check)
		return EXIT_SUCCESS;
	if (state && args->stand_by >= 0)
		return handover_stand_by(config, state, args->stand_by);
	return supervisor_main(config, &launch, state);
}

/* A supervisor must not give up a device that is there: systemd, which keeps its descriptors only
 * for a service that has crashed, tries once more. */
static int give_up(const struct arguments *args, const struct state *state)
{
	if (!args->check && args->stand_by < 0 && (state || args->resume >= 0))
		abort();
	return EXIT_FAILURE;
}

/* After a crash the device goes on, whatever has become of its configuration. */
static void fall_back(const struct state *state, const struct machine *machine, struct config *ret)
{
	log_error("going on with %s as it is, and with defaults for the rest", state->name);
	config_defaults(ret, machine);
	memcpy(ret->name, state->name, sizeof(ret->name));
	ret->frontend = FRONTEND_AUTO;
	ret->block_size = state->block_size;
	ret->loop = state->loop;
	ret->swap = state->swap;
}

int main(int argc, char **argv)
{
	struct arguments args = {.resume = -1, .stand_by = -1};
	struct state *state = NULL;
	struct machine machine;
	struct config config;
	char *message;
	int status, err;

	log_init();
	signal(SIGPIPE, SIG_IGN); /* of a log that nobody reads any more */
	status = parse(argc, argv, &args);
	if (status >= 0)
		return status;
	if (find_state(&args, &state))
		return give_up(&args, state);
	machine_look(&machine);
	if (state) /* the table is there already */
		machine.room = UINT64_MAX;
	err = config_load(args.config, &machine, &config, &message);
	if (err) {
		log_error("%s", message ? message : strerror(-err));
		free(message);
		if (!state || args.resume >= 0)
			return give_up(&args, state);
		fall_back(state, &machine, &config);
	}
	status = run(&args, &config, state);
	if (args.stand_by >= 0) /* a server has unmapped the state */
		return status;
	return status == EXIT_FAILURE && state && state->stable != PHASE_ENDED
		       ? give_up(&args, state)
		       : status;
}

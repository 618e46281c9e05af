/* SPDX-License-Identifier: MIT
 *
 * uzramd: the command line.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "supervisor.h"

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

int main(int argc, char **argv)
{
	struct arguments args = {0};
	struct config config;
	char *message;
	int status, err;

	status = parse(argc, argv, &args);
	if (status >= 0)
		return status;
	err = config_load(args.config,
			  (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
			  (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &config, &message);
	if (err) {
		log_error("%s", message ? message : strerror(-err));
		free(message);
		return EXIT_FAILURE;
	}
	return args.check ? EXIT_SUCCESS : supervisor_main(&config);
}

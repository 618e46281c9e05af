/* SPDX-License-Identifier: MIT
 *
 * uzramctl list: one line for each device, in the columns of zramctl.
 */
#include <errno.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctl/ctl.h"

enum kind { TEXT, NUMBER, SIZE };

enum { NAME, ALGORITHM, DISKSIZE, DATA, COMPR, TOTAL, STREAMS, MOUNTPOINT, COLUMNS };

static const struct {
	const char *name;
	enum kind kind;
	double width; /* a hint: characters, or a share of the terminal if below 1 */
} columns[COLUMNS] = {
	{"NAME", TEXT, 0.25},	{"ALGORITHM", TEXT, 3},	    {"DISKSIZE", SIZE, 5},
	{"DATA", SIZE, 5},	{"COMPR", SIZE, 5},	    {"TOTAL", SIZE, 5},
	{"STREAMS", NUMBER, 3}, {"MOUNTPOINT", TEXT, 0.10},
};

static struct libscols_table *table_new(const struct ctl_args *args)
{
	struct libscols_table *table = scols_new_table();
	struct libscols_column *column;

	if (!table)
		return NULL;
	scols_table_set_name(table, "devices");
	scols_table_enable_json(table, args->json);
	scols_table_enable_noheadings(table, args->noheadings);
	for (unsigned i = 0; i < COLUMNS; i++) {
		enum kind kind = columns[i].kind;

		column = scols_table_new_column(table, columns[i].name, columns[i].width,
						kind == TEXT ? 0 : SCOLS_FL_RIGHT);
		if (!column) {
			scols_unref_table(table);
			return NULL;
		}
		/* As in util-linux, a size is a number in JSON only if --bytes makes it one. */
		if (kind == NUMBER || (kind == SIZE && args->bytes))
			scols_column_set_json_type(column, SCOLS_JSON_NUMBER);
	}
	return table;
}

static int set_size(struct libscols_line *line, unsigned column, uint64_t bytes, bool plain)
{
	char text[CTL_SIZE_TEXT];

	return scols_line_set_data(line, column, ctl_size_text(bytes, plain, text));
}

/* d is NULL if nothing is known of it. */
static int add_line(struct libscols_table *table, const char *name, const struct ctl_device *d,
		    bool plain)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	char escaped[4 * NAME_MAX + 1], workers[CTL_SIZE_TEXT];
	int err;

	if (!line)
		return -ENOMEM;
	err = scols_line_set_data(line, NAME, ctl_escape(name, escaped, sizeof(escaped)));
	if (err || !d)
		return err;
	err = scols_line_set_data(line, ALGORITHM, d->algorithm);
	err = err ?: set_size(line, DISKSIZE, d->size, plain);
	err = err ?: set_size(line, DATA, d->mm[MM_ORIG], plain);
	err = err ?: set_size(line, COMPR, d->mm[MM_COMPR], plain);
	err = err ?: set_size(line, TOTAL, d->mm[MM_USED], plain);
	err = err ?: scols_line_set_data(line, STREAMS, ctl_size_text(d->workers, true, workers));
	if (!err && *d->mountpoint)
		err = scols_line_set_data(line, MOUNTPOINT, d->mountpoint);
	return err;
}

struct list {
	struct libscols_table *table;
	const struct ctl_args *args;
};

static int load(void *name, void *ret)
{
	return ctl_device_load(name, ret);
}

/* A directory without control files is what a dead daemon has left, not a device: only what else
 * goes wrong is an error. A device whose daemon hangs is one. */
static int add_device(void *arg, const char *name)
{
	struct list *list = arg;
	struct ctl_device d;
	int err = ctl_bounded(load, (void *)(uintptr_t)name, &d, sizeof(d),
			      ctl_now_ms() + list->args->timeout);

	if (err == -ENOENT)
		return EXIT_SUCCESS;
	if (err == -ETIMEDOUT)
		add_line(list->table, name, NULL, false);
	if (!err)
		err = add_line(list->table, name, &d, list->args->bytes);
	return err ? ctl_fail(name, "cannot read", err) : EXIT_SUCCESS;
}

int ctl_list(const struct ctl_args *args)
{
	struct list list = {table_new(args), args};
	int status;

	if (!list.table)
		return ctl_fail("list", "cannot make the table", -ENOMEM);
	status = ctl_each_device(add_device, &list);
	scols_print_table(list.table);
	scols_unref_table(list.table);
	return status;
}

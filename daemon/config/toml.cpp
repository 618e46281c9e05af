/* SPDX-License-Identifier: MIT
 *
 * The C face of toml++, see config_toml.h. The library keeps a table's keys sorted by name; we want
 * them as they stand in the file, so they are collected first and sorted by position.
 */
#include "config/toml.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <toml++/toml.h>
#include <vector>

namespace
{

constexpr unsigned max_depth = 4;

struct found {
	std::string path;
	toml::source_position where;
	const toml::node *node;
};

/* The key "swap.enabled" must not pass for the key enabled of the table swap. */
std::string as_written(std::string_view key)
{
	constexpr std::string_view bare =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	std::string text(key);

	if (text.empty() || text.find_first_not_of(bare) != text.npos)
		return '"' + text + '"';
	return text;
}

void collect(const toml::table &table, const std::string &prefix, unsigned depth,
	     std::vector<found> &ret)
{
	for (auto &&[key, node] : table) {
		std::string path = prefix + as_written(key.str());
		const toml::table *inner = node.as_table();

		ret.push_back({path, key.source().begin, &node});
		if (inner && depth < max_depth)
			collect(*inner, path + '.', depth + 1, ret);
	}
}

toml_type type_of(const toml::node &node)
{
	switch (node.type()) {
	case toml::node_type::table:
		return TOML_TABLE;
	case toml::node_type::array:
		return TOML_ARRAY;
	case toml::node_type::string:
		return TOML_STRING;
	case toml::node_type::integer:
		return TOML_INTEGER;
	case toml::node_type::floating_point:
		return TOML_FLOAT;
	case toml::node_type::boolean:
		return TOML_BOOLEAN;
	default:
		return TOML_TIME;
	}
}

} // namespace

int toml_read(const char *text, size_t len, void (*each)(void *arg, const struct toml_item *item),
	      void *arg, struct toml_error *ret_error)
try {
	const toml::table root = toml::parse(std::string_view(text, len));
	std::vector<found> all;

	collect(root, "", 1, all);
	std::sort(all.begin(), all.end(),
		  [](const found &a, const found &b) { return a.where < b.where; });

	for (const found &f : all) {
		toml_item item = {f.path.c_str(), f.where.line, type_of(*f.node), {}};
		std::string string = f.node->value_or(std::string());

		std::replace(string.begin(), string.end(), '\0', '\x1a');
		if (item.type == TOML_STRING)
			item.string = string.c_str();
		else if (item.type == TOML_INTEGER)
			item.integer = f.node->as_integer()->get();
		else if (item.type == TOML_BOOLEAN)
			item.boolean = f.node->as_boolean()->get();
		each(arg, &item);
	}
	return 0;
} catch (const toml::parse_error &e) {
	const toml::source_position where = e.source().begin;

	ret_error->line = where.line;
	ret_error->column = where.column;
	std::snprintf(ret_error->text, sizeof(ret_error->text), "%.*s",
		      static_cast<int>(e.description().size()), e.description().data());
	return -EINVAL;
} catch (...) {
	return -ENOMEM; /* std::bad_alloc: parse_error is the only exception of the library's own */
}

// SPDX-License-Identifier: MIT
// Something to compile: most of the standard library's headers, a TOML parser in one header, and uses of both.

#include <bits/stdc++.h>
#include <toml++/toml.h>

template <int N> struct number {
	std::map<std::string, std::array<long, N>> table;

	long sum(const std::string &key)
	{
		auto &row = table[key + std::to_string(N)];
		std::iota(row.begin(), row.end(), N);
		std::shuffle(row.begin(), row.end(), std::mt19937(N));
		std::sort(row.begin(), row.end(), [](long a, long b) { return a % N < b % N; });
		return std::accumulate(row.begin(), row.end(), 0L);
	}
};

template <int... N> static long all(const std::string &key, std::integer_sequence<int, N...>)
{
	return (number<N + 1>().sum(key) + ...);
}

long compile_me(const std::string &text)
{
	std::regex words("([a-z]+)\\s*=\\s*(\\d+)");
	std::unordered_map<std::string, std::vector<std::string>> found;
	for (std::sregex_iterator i(text.begin(), text.end(), words), end; i != end; ++i)
		found[(*i)[1]].push_back((*i)[2]);
	auto table = toml::parse(text);
	std::ostringstream out;
	out << toml::json_formatter(table) << found.size();
	return all(out.str(), std::make_integer_sequence<int, 12>());
}

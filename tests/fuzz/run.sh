#!/bin/sh
# Run a fuzzer for $UZ_FUZZ_SECONDS (5) seconds, from its seeds on: run.sh FUZZER [MORE-SEEDS...]
#
# For BUILD/fuzz_NAME the seeds are seeds/NAME/, and NAME.dict, if there is one, has words that inputs are made of.
# What it finds on the way is thrown away, so that every run begins alike; libFuzzer prints the seed of its random
# numbers. An input that makes it fail is kept beside the fuzzer, and the last line says how to run it again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
fuzzer=$(realpath "$1")
shift
name=${fuzzer##*/fuzz_}
artifacts=$fuzzer.failed/
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

mkdir "$scratch/corpus" "$scratch/tmp"
mkdir -p "$artifacts"
set -- "$scratch/corpus" "$here/seeds/$name" "$@"
[ ! -f "$here/$name.dict" ] || set -- "-dict=$here/$name.dict" "$@"
if TMPDIR=$scratch/tmp "$fuzzer" -max_total_time="${UZ_FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=1024 -max_len=8192 \
    -print_final_stats=1 -artifact_prefix="$artifacts" "$@" >"$scratch/log" 2>&1; then
    grep -E '^(INFO: Seed|stat::number_of_executed_units|stat::new_units_added)' "$scratch/log"
    rmdir "$artifacts" 2>/dev/null || true # it holds what an earlier run has found
    exit 0
fi
tail -n 200 "$scratch/log" >&2
input=$(sed -n 's/.*Test unit written to //p' "$scratch/log" | tail -n 1)
echo "Again: $fuzzer ${input:-$artifacts...}" >&2
exit 1

#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Runs the benchmarks and reports: build/bench/bench.json, a table, and plots. README.md has the method."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
TREE = HERE.parent.parent


def parts(build, corpus, quick):
    """{part: command}, in the order of running."""
    programs = build / "tests" / "bench"
    flag = ["--quick"] if quick else []
    return {
        "store": [programs / "bench_store", "--corpus", corpus, *flag],
        "zstd": [programs / "bench_store", "--corpus", corpus, *flag, "--codec", "zstd", "--only", "speed,memory"],
        "free": [programs / "bench_free", *flag],
        "recover": [programs / "bench_recover", *(["256"] if quick else [])],
        "fill": [HERE / "fill.sh"],
        "random": [HERE / "random.sh"],
        "thrash": [HERE / "thrash.sh"],
        "munmap": [HERE / "munmap.sh"],
    }


def first_line(*command):
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True).stdout.partition("\n")[0]


def machine(quick):
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    cpus = [line.partition(":")[2].strip() for line in cpuinfo if "model name" in line]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "revision": first_line("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "quick": quick,
        "kernel": platform.release(),
        "cpus": f"{os.cpu_count()} x {cpus[0] if cpus else platform.machine()}",
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "load_before": os.getloadavg(),
    }


def add(figures, part, line):
    """Lines of the same what and arm are one figure: their values follow each other."""
    for figure in figures:
        if (figure["what"], figure["arm"]) == (line["what"], line["arm"]):
            figure["values"] += line["values"]
            return
    figures.append({"part": part, **line})


def run(part, command, env, figures, log):
    """Runs one part; its figures are added to figures, the rest of its output to the log. False if it failed."""
    start = time.monotonic()
    print(f"{part} ...", end="", file=sys.stderr, flush=True)
    with subprocess.Popen(
        [str(word) for word in command], env=env, cwd=TREE, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        for text in process.stdout:
            log.write(text)
            log.flush()
            if not text.startswith("{"):
                print(f" {text.strip()} ...", end="", file=sys.stderr, flush=True)
            elif "what" in (line := json.loads(text)):
                add(figures, part, line)
    outcome = {0: "", 77: ", skipped"}.get(process.returncode, f", FAILED with status {process.returncode}")
    print(f" {time.monotonic() - start:.0f} s{outcome}", file=sys.stderr)
    return process.returncode in (0, 77)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; under 3 minutes")
    parser.add_argument("--corpus", type=Path, required=True, help="a directory of NAME.pages")
    parser.add_argument("--build", type=Path, default=TREE / "build")
    parser.add_argument("part", nargs="*", help="of " + ", ".join(parts(TREE, "", False)) + "; all if none is named")
    args = parser.parse_args()
    commands = parts(args.build.resolve(), args.corpus.resolve(), args.quick)
    for part in args.part:
        if part not in commands:
            parser.error(f"there is no part {part}")

    out = args.build / "bench"
    out.mkdir(exist_ok=True)
    for old in (*out.glob("*.png"), *out.glob("*.svg")):
        old.unlink()
    env = {
        **os.environ,
        "BUILD": str(args.build.resolve()),
        "CORPUS": str(args.corpus.resolve()),
        "QUICK": "1" if args.quick else "",
    }
    description = json.loads((args.corpus / "corpus.json").read_text())
    result = {**machine(args.quick), "corpus": description["name"], "figures": []}
    ok = True
    for part in args.part or commands:
        with open(out / f"{part}.log", "w") as log:
            if not run(part, commands[part], env, result["figures"], log):
                ok = False
                print(f"see {log.name}", file=sys.stderr)
    result["load_after"] = os.getloadavg()
    report.evaluate(result)
    (out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    report.print_tables(result)
    report.plot(result, out)
    print(f"\n{out}/bench.json has the figures, {out}/*.png and *.svg the plots.")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

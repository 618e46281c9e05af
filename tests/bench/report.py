#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Tables, goals and plots of a run of the benchmarks: report.py [BENCH.JSON]"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Goal(NamedTuple):
    """The median of arm's values is at least, or at most, the bound; with a base, the median of their ratios to the
    base's, which may be of another figure. what and base_what are regular expressions."""

    text: str
    what: str
    arm: str
    limit: str  # ">=" or "<="
    bound: float
    base: str = ""
    base_what: str = ""


ORDER = "(sequential|random)"
WRITE, READ = f"(first write|rewrite), 1 thread, .*, {ORDER}", f"read, 1 thread, .*, {ORDER}"
IN_ALL = "memory of a page, in all"
FREE = "free, CPU time, {} threads?".format
ONE_BY_ONE = "4k random {}, depth {}".format
MUNMAP = "munmap of 256 MiB swapped out"
GOALS = [
    Goal("write, one thread, over the raw codec", WRITE, "uzram", "<=", 1 / 0.92, "raw codec"),
    Goal("read, one thread, over the raw codec", READ, "uzram", "<=", 1 / 0.85, "raw codec"),
    Goal("two threads over one", "(.*write|read), 2 threads over 1, .*", "uzram", ">=", 1.85),
    Goal("memory over compressed bytes, fresh", r"memory, 1\d{3} MiB, .*, fresh", "uzram", "<=", 1.035),
    Goal("... after churn", r"memory, 1\d{3} MiB, .*, (churned|sizes shifted)", "uzram", "<=", 1.07),
    Goal("... of a small store", "memory, 100 MiB, .*, fresh", "uzram", "<=", 1.06),
    Goal("memory over zram's, same codec", IN_ALL, "uzram lz4", "<=", 1, "zram lz4"),
    Goal("default's memory over zram lz4's", IN_ALL, "uzram", "<=", 1 / 1.6, "zram lz4"),
    Goal("default's write CPU over zram lz4's", "write, CPU", "uzram", "<=", 1.25, "zram lz4"),
    Goal("... without the caller's", "write, CPU of the server", "uzram", "<=", 1.25, "zram lz4", "write, CPU"),
    Goal("98 % given back after a discard, ms", r"until 98 % are back, .*, 1\d{3} MiB, .*", "uzram", "<=", 1000),
    Goal("deferred push, ns", "free, median, CPU time", "push", "<=", 15),
    Goal("deferred push over synchronous free", "free, median, CPU time", "push", "<=", 0.1, "synchronous"),
    Goal("deferred push, 8 producers over 1", FREE(8), "push", "<=", 1.1, "push", FREE(1)),
    Goal("drain over synchronous free", FREE(1), "drain", "<=", 0.7, "synchronous"),
    Goal("munmap of 256 MiB over zram's", f"{MUNMAP}.*", "uzram", "<=", 1, "zram lz4"),
    Goal("... drain held up, over not", f"{MUNMAP}.*, CPU", "uzram, drain held up", "<=", 1.25, "uzram"),
    Goal("4k read through loop, hold over none", ONE_BY_ONE("read", "1, median"), "loop", "<=", 0.5, "loop, no hold"),
    Goal(
        "what the store adds to a read over raw decode",
        *("read, CPU of the server, above null", "uzram lz4", "<=", 1.25, "raw codec", "read, 1 thread, lz4, sequential"),
    ),
    Goal("four writers on disk over one", ONE_BY_ONE("write", 4), "disk", ">=", 3, "disk", ONE_BY_ONE("write", 1)),
]


# ---- evaluation ----


def quartiles(values):
    if len(values) < 2:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def ratios(figure, base):
    """Of values that belong together; of medians where the numbers of rounds differ."""
    if len(figure["values"]) == len(base["values"]):
        pairs = zip(figure["values"], base["values"])
    else:
        pairs = [(statistics.median(figure["values"]), statistics.median(base["values"]))]
    return [value / reference for value, reference in pairs if reference]


def groups(figures):
    """{what: its figures}"""
    found = {}
    for figure in figures:
        found.setdefault(figure["what"], []).append(figure)
    return found


def find(figures, what, arm):
    """what is a regular expression."""
    return next((f for f in figures if f["arm"] == arm and re.fullmatch(what, f["what"])), None)


def judge(goal, figures):
    """Results of the goal, one for each figure it's about; one without a value if there is none."""
    results = []
    for figure in figures:
        if figure["arm"] != goal.arm or not re.fullmatch(goal.what, figure["what"]):
            continue
        values = figure["values"]
        if goal.base:
            base = find(figures, goal.base_what or re.escape(figure["what"]), goal.base)
            values = ratios(figure, base) if base else []
        if values:
            low, median, high = quartiles(values)
            met = median >= goal.bound if goal.limit == ">=" else median <= goal.bound
            outcome = {"what": figure["what"], "value": median, "spread": [low, high], "met": met}
            results.append({**goal._asdict(), **outcome})
    return results or [{**goal._asdict(), "value": None, "met": None}]


def derive(figures):
    """What the store adds to the null front end's CPU time for a page read."""
    what = "read, CPU of the server"
    store, null = find(figures, what, "uzram lz4"), find(figures, what, "null")
    name = f"{what}, above null"
    if store and null and not find(figures, name, "uzram lz4"):
        values = [with_store - without for with_store, without in zip(store["values"], null["values"])]
        figures.append({**store, "what": name, "values": values})


def evaluate(result):
    """Adds derived figures, quartiles, ratios (to zram lz4 if it's one of the arms, else to the first), and goals."""
    derive(result["figures"])
    for figures in groups(result["figures"]).values():
        base = next((f for f in figures if f["arm"] == "zram lz4"), figures[0])
        for figure in figures:
            figure["quartiles"] = quartiles(figure["values"])
            if figure is not base and (found := ratios(figure, base)):
                figure["ratio"] = {"to": base["arm"], "quartiles": quartiles(found)}
    result["goals"] = [outcome for goal in GOALS for outcome in judge(goal, result["figures"])]


# ---- tables ----


def number(value):
    """Four digits."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spread(values):
    return f"{number(values[0]):>9} .. {number(values[-1]):<9}"


def print_figures(figures):
    for what, arms in groups(figures).items():
        print(f"\n{what}, {arms[0]['unit']}, {arms[0]['better']} is better")
        for figure in arms:
            low, median, high = figure["quartiles"]
            line = f"  {figure['arm']:<26} {number(median):>9}  {spread((low, high))}"
            if "ratio" in figure:
                low, median, high = figure["ratio"]["quartiles"]
                line += f"  x {median:<7.3f} {low:.3f} .. {high:.3f}"
            print(line.rstrip())


def print_goals(goals):
    print(f"\n{'goal':<48} {'measured':>9}  {'quartiles':^22} {'wanted':>9}")
    for goal in goals:
        wanted = f"{goal['limit']} {number(goal['bound'])}"
        if goal["value"] is None:
            print(f"{goal['text']:<48} {'-':>9}  {'':22} {wanted:>9}  not measured")
        else:
            met = "met" if goal["met"] else "NOT MET"
            measured = f"{number(goal['value']):>9}  {spread(goal['spread'])}"
            print(f"{goal['text']:<48} {measured} {wanted:>9}  {met}: {goal['what']}")


def print_tables(result):
    print(
        f"{result['date']}, {result['revision']}, Linux {result['kernel']}, "
        f"{result['cpus']}, {result['memory_mib']} MiB; "
        f"load {result['load_before'][0]:.1f} before, {result['load_after'][0]:.1f} after; "
        f"{result['corpus']}{', quick' if result['quick'] else ''}"
    )
    print("Medians, quartiles; ratio to the arm that has none, median and quartiles of the rounds' ratios.")
    print_figures(result["figures"])
    print_goals(result["goals"])


# ---- plots ----

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000"]
STYLE = """
set grid ytics back linecolor rgb "#dddddd"
set border 3 linecolor rgb "#666666"
set tics nomirror textcolor rgb "#333333"
set key outside right top noenhanced
set xtics noenhanced
set datafile missing "-"
"""
BARS = """
set style data histograms
set style histogram errorbars gap 1.5 linewidth 1
set style fill solid 0.9 border linecolor rgb "#555555"
set bars 0.5
set yrange [0:*]
set bmargin 4
"""
LINES = """
set logscale xy
set format y "%.0s%c"
set yrange [*:*]
set bars 0.5
"""


def quoted(text):
    return '"' + text.replace('"', "'").replace("\n", r"\n") + '"'


def select(result, patterns):
    """{label: {arm: quartiles}} of the figures that patterns, {regular expression: label}, match; and the arms."""
    rows = {}
    for pattern, label in patterns.items():
        for figure in result["figures"]:
            if match := re.fullmatch(pattern, figure["what"]):
                rows.setdefault(match.expand(label), {})[figure["arm"]] = figure["quartiles"]
    arms = dict.fromkeys(arm for row in rows.values() for arm in row)
    return rows, sorted(arms, key=lambda arm: arm != "zram lz4")


def data(rows, arms):
    """Gnuplot's data blocks, one for each arm: label, median, quartiles."""
    text = ""
    for i, arm in enumerate(arms):
        text += f"$arm{i} << EOD\n"
        for label, row in rows.items():
            low, median, high = row.get(arm, "---")
            text += f"{quoted(label)} {median} {low} {high}\n"
        text += "EOD\n"
    return text


def gnuplot(result, out, title, script):
    quick = ", quick" if result["quick"] else ""
    title = f"{title}\n{result['corpus']}, {result['revision']}, {result['date'][:10]}{quick}"
    text = f"{STYLE}set title {quoted(title)} noenhanced\n{script}"
    for terminal, suffix in (("pngcairo", "png"), ("svg", "svg")):
        head = f"set terminal {terminal} size 1200,600 font 'Sans,11' background '#ffffff'\n"
        head += f"set output '{out}.{suffix}'\n"
        subprocess.run(["gnuplot"], input=head + text, text=True, check=True)


def bars(result, out, title, unit, patterns):
    """A cluster of bars for each label, in it a bar for each arm, with its quartiles."""
    rows, arms = select(result, patterns)
    if not rows:
        return
    plots = [
        f"$arm{i} using 2:3:4:xtic(1) title {quoted(arm)} linecolor rgb '{COLOURS[i % len(COLOURS)]}'"
        for i, arm in enumerate(arms)
    ]
    script = f"{data(rows, arms)}{BARS}set ylabel {quoted(unit)}\n"
    gnuplot(result, out, title, script + "plot " + ", ".join(plots) + "\n")


def curves(result, out, title, unit, axis, patterns):
    """A curve for each arm; the labels are numbers."""
    rows, arms = select(result, patterns)
    if not rows:
        return
    rows = dict(sorted(rows.items(), key=lambda row: int(row[0])))
    plots = [
        f"$arm{i} using (real(strcol(1))):2:3:4 with yerrorlines title {quoted(arm)} "
        f"linecolor rgb '{COLOURS[i % len(COLOURS)]}' linewidth 2 pointtype 7 pointsize 0.8"
        for i, arm in enumerate(arms)
    ]
    xs = [int(label) for label in rows]
    script = f"{data(rows, arms)}{LINES}set ylabel {quoted(unit)}\nset xlabel {quoted(axis)}\n"
    script += f"set xrange [{xs[0] / 1.3}:{xs[-1] * 1.3}]\nset xtics ({', '.join(rows)})\n"
    gnuplot(result, out, title, script + "plot " + ", ".join(plots) + "\n")


def plot(result, out):
    """Those for which there are figures."""
    bars(result, out / "memory", "Memory of a page with all metadata", "bytes", {
        IN_ALL: "in all",
        "memory of a page, compressed data": "compressed data alone",
        "thrash, memory of a stored page": "in use as swap",
    })
    for codec in ("lz4", "zstd"):
        bars(result, out / f"memory-store-{codec}", f"Memory over {codec}'s bytes, with all metadata", "ratio", {
            rf"memory, (\d+ MiB), {codec}, (.*)": "\\2\n\\1",
        })
        bars(result, out / f"speed-store-{codec}", f"A page in the store with {codec}, CPU time, one thread", "µs", {
            f"(first write|rewrite|read), 1 thread, {codec}, {ORDER}": "\\1\n\\2",
        })
    bars(result, out / "speed", "A page written and read in large requests, one thread", "µs", {
        "(write|read), (wall|CPU)": r"\1, \2",
    })
    bars(result, out / "free", "CPU time of a free", "ns", {r"free, CPU time, (\d+ threads?)": r"\1"})
    bars(result, out / "latency", "4 KiB at random, one at a time", "µs", {
        "4k random (read|write), depth 1, (median|CPU)": r"\1, \2",
    })
    for op in ("read", "write"):
        curves(result, out / f"random-{op}", f"4 KiB random {op}s", "IOPS", "synchronous threads", {
            rf"4k random {op}, depth (\d+)": r"\1",
        })
    for processes, words in (("1", "one process"), ("3", "three processes")):
        curves(result, out / f"munmap-{processes}", f"munmap of swapped-out memory, {words}", "ms", "MiB each", {
            rf"munmap of (\d+) MiB swapped out, processes: {processes}": r"\1",
        })
    bars(result, out / "thrash-wall", "A working set of three times the memory", "ms", {"thrash, wall": "wall time"})
    bars(result, out / "thrash-memory", "A working set of three times the memory", "MiB", {"thrash, memory": "memory"})


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "build/bench/bench.json")
    run = json.loads(path.read_text())
    evaluate(run)
    print_tables(run)
    plot(run, path.parent)

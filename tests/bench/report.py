#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tables, goals and plots of a run of the benchmarks: report.py [BENCH.JSON]"""

import fnmatch
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Goal(NamedTuple):
    """The median of arm's values in what (a pattern) is at least, or at most, the bound; with a base, the median of
    their ratios to the base's values, which may belong to another what."""

    text: str
    what: str
    arm: str
    limit: str  # ">=" or "<="
    bound: float
    base: str = ""
    base_what: str = ""


GOALS = [
    Goal("write, one thread, against the raw codec", "write, 1 thread, *", "uzram", "<=", 1 / 0.92, "raw"),
    Goal("read, one thread, against raw decode", "read, 1 thread, *", "uzram", "<=", 1 / 0.85, "raw"),
    Goal("two threads against one", "*, 2 threads over 1, *", "uzram", ">=", 1.85),
    Goal("memory over compressed bytes, fresh", "memory, 1??? MiB, *, fresh", "uzram", "<=", 1.035),
    Goal("... after churn", "memory, 1??? MiB, *churn*", "uzram", "<=", 1.07),
    Goal("... on a small store", "memory, 100 MiB, *, fresh", "uzram", "<=", 1.06),
    Goal("back to the kernel 1 s after a discard", "back to the kernel 1 s after a discard, *", "uzram", ">=", 98),
    Goal("memory against zram, same codec", "memory of a page, in all", "uzram lz4", "<=", 1, "zram lz4"),
    Goal("default's memory against zram lz4", "memory of a page, in all", "uzram", "<=", 1 / 1.6, "zram lz4"),
    Goal("default's write CPU against zram lz4, server", "write, CPU of the server", "uzram", "<=", 1.25, "zram lz4", "write, CPU"),
    Goal("... server and caller", "write, CPU", "uzram", "<=", 1.25, "zram lz4"),
    Goal("munmap of 256 MiB swapped out", "munmap of 256 MiB*", "uzram", "<=", 1, "zram lz4"),
    Goal("... drain held up", "munmap of 256 MiB*", "uzram, drain held up", "<=", 1, "zram lz4"),
    Goal(
        "4k read through loop, with the latency hold", "4k random read, depth 1, median", "loop", "<=", 0.5, "loop, no hold"
    ),
    Goal(
        "four writers on disk against one", "4k random write, depth 4", "disk", ">=", 3, "disk", "4k random write, depth 1"
    ),
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
    return next((f for f in figures if f["what"] == what and f["arm"] == arm), None)


def judge(goal, figures):
    """Results of the goal, one for each figure it's about; one without a value if there is none."""
    results = []
    for figure in figures:
        if figure["arm"] != goal.arm or not fnmatch.fnmatchcase(figure["what"], goal.what):
            continue
        values = figure["values"]
        if goal.base:
            base = find(figures, goal.base_what or figure["what"], goal.base)
            values = ratios(figure, base) if base else []
        if values:
            low, median, high = quartiles(values)
            met = median >= goal.bound if goal.limit == ">=" else median <= goal.bound
            results.append({**goal._asdict(), "what": figure["what"], "value": median, "spread": [low, high], "met": met})
    return results or [{**goal._asdict(), "value": None, "met": None}]


def evaluate(result):
    """Adds medians and quartiles, ratios to zram lz4 where it's one of the arms, else to the first, and goals."""
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
            print(f"{goal['text']:<48} {number(goal['value']):>9}  {spread(goal['spread'])} {wanted:>9}  {met}: {goal['what']}")


def print_tables(result):
    print(
        f"{result['date']}, {result['revision']}, Linux {result['kernel']}, {result['cpus']}, {result['memory_mib']} MiB; "
        f"load {result['load_before'][0]:.1f} before, {result['load_after'][0]:.1f} after; "
        f"{result['corpus']}{', quick' if result['quick'] else ''}"
    )
    print("Medians, quartiles; ratio to the arm that has none, median and quartiles of the rounds' ratios.")
    print_figures(result["figures"])
    print_goals(result["goals"])


# ---- plots ----


BREAK = r"\n"  # in gnuplot's strings
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000"]
STYLE = """
set grid ytics back linecolor rgb "#dddddd"
set border 3 linecolor rgb "#666666"
set tics nomirror textcolor rgb "#333333"
set yrange [0:*]
set key outside right top noenhanced
"""


def quoted(text):
    return '"' + text.replace('"', "'") + '"'


def gnuplot(out, name, title, script, result):
    note = f"{result['corpus']}, {result['revision']}, {result['date'][:10]}{', quick' if result['quick'] else ''}"
    text = f"{STYLE}\nset title {quoted(title + BREAK + note)} noenhanced\n{script}"
    for terminal, suffix in (("pngcairo size 1100,600 font 'Sans,11'", "png"), ("svg size 1100,600 font 'Sans,12'", "svg")):
        head = f"set terminal {terminal} background '#ffffff'\nset output '{out / name}.{suffix}'\n"
        subprocess.run(["gnuplot"], input=head + text, text=True, check=True)


def bars(result, out, name, title, unit, whats, log=False):
    """A cluster of bars for each of whats ({what: label}), in it a bar for each arm, with its quartiles."""
    found = groups(result["figures"])
    whats = {what: label for what, label in whats.items() if what in found}
    arms = list(dict.fromkeys(f["arm"] for what in whats for f in found[what]))
    if not arms:
        return
    blocks, plots = [], []
    for i, arm in enumerate(arms):
        lines = []
        for label, what in ((label, what) for what, label in whats.items()):
            figure = find(result["figures"], what, arm)
            lines.append(f"{quoted(label)} " + (" ".join(f"{figure['quartiles'][q]:.6g}" for q in (1, 0, 2)) if figure else "- - -"))
        blocks.append(f"$arm{i} << EOD\n" + "\n".join(lines) + "\nEOD\n")
        plots.append(f"$arm{i} using 2:3:4:xtic(1) title {quoted(arm)} linecolor rgb '{COLOURS[i % len(COLOURS)]}'")
    script = "".join(blocks) + f"set ylabel {quoted(unit)}\n"
    script += "set logscale y\nset yrange [*:*]\n" if log else ""
    script += "set style data histograms\nset style histogram errorbars gap 1.5 linewidth 1\nset style fill solid 0.9 noborder\n"
    script += 'set datafile missing "-"\nset bars 0.6\nset xtics noenhanced\nplot ' + ", \\\n  ".join(plots) + "\n"
    gnuplot(out, name, title, script, result)


def lines(result, out, name, title, unit, axis, whats):
    """A line for each arm over whats ({what: x})."""
    found = groups(result["figures"])
    whats = {what: x for what, x in whats.items() if what in found}
    arms = list(dict.fromkeys(f["arm"] for what in whats for f in found[what]))
    if not arms:
        return
    blocks, plots = [], []
    for i, arm in enumerate(arms):
        points = [(x, find(result["figures"], what, arm)) for what, x in whats.items()]
        rows = [f"{x} {f['quartiles'][1]:.6g} {f['quartiles'][0]:.6g} {f['quartiles'][2]:.6g}" for x, f in points if f]
        blocks.append(f"$arm{i} << EOD\n" + "\n".join(rows) + "\nEOD\n")
        style = f"linecolor rgb '{COLOURS[i % len(COLOURS)]}' linewidth 2 pointtype 7 pointsize 0.8"
        plots.append(f"$arm{i} using 1:2:3:4 with yerrorlines title {quoted(arm)} {style}")
    xs = sorted(set(whats.values()))
    script = "".join(blocks) + f"set ylabel {quoted(unit)}\nset xlabel {quoted(axis)}\nset logscale xy\nset yrange [*:*]\n"
    script += f"set xrange [{xs[0] / 1.3:g}:{xs[-1] * 1.3:g}]\nset xtics ({', '.join(map(str, xs))})\nset bars 0.5\n"
    script += "plot " + ", \\\n  ".join(plots) + "\n"
    gnuplot(out, name, title, script, result)


def plot(result, out):
    bars(result, out, "memory", "Memory of a page with all metadata", "bytes", {
        "memory of a page, in all": "in all",
        "memory of a page, compressed data": "compressed data alone",
        "thrash, memory of a stored page": "in use as swap",
    })
    bars(result, out, "speed", "A page written and read in large requests, one thread", "µs", {
        "write, wall": "write, wall",
        "write, CPU": "write, CPU",
        "read, wall": "read, wall",
        "read, CPU": "read, CPU",
    })
    for op in ("read", "write"):
        depths = {f"4k random {op}, depth {depth}": depth for depth in (1, 4, 16, 64)}
        lines(result, out, f"random-{op}", f"4 KiB random {op}s", "IOPS", "synchronous threads", depths)
    bars(result, out, "latency", "4 KiB at random, one at a time", "µs", {
        f"4k random {op}, depth 1, {which}": f"{op}, {which}" for op in ("read", "write") for which in ("median", "p99")
    })
    for processes, name in ((1, "one process"), (3, "three processes")):
        sizes = {f"munmap of {mib} MiB swapped out, processes: {processes}": mib for mib in (64, 128, 256, 512)}
        lines(result, out, f"munmap-{processes}", f"munmap of swapped-out memory, {name}", "ms", "MiB each", sizes)
    bars(result, out, "thrash-wall", "A working set of three times the memory", "ms", {"thrash, wall": "wall time"})
    bars(result, out, "thrash-memory", "A working set of three times the memory", "MiB", {"thrash, memory": "memory"})


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "build/bench/bench.json")
    run = json.loads(path.read_text())
    evaluate(run)
    print_tables(run)
    plot(run, path.parent)

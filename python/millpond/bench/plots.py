"""Plots of a run as SVG, by matplotlib, from the JSON document of `millpond bench`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millpond.demo.pools import MILLPOND, STDLIB

COLOURS = {
    MILLPOND: "#0072b2",
    STDLIB: "#d55e00",
    "concurrent.futures": "#e69f00",
    "mpire": "#009e73",
    "joblib": "#cc79a7",
    "loky": "#56b4e9",
    "ray": "#999999",
}
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""
SIZE_INCHES = (8.0, 4.0)
RC: dict[Any, Any] = {
    "svg.hashsalt": "millpond",  # equal figures make equal files
    "svg.fonttype": "none",  # texts stay texts: smaller, and found by a search
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

Workload = Mapping[str, Any]


def by_name(document: Mapping[str, Any]) -> dict[str, Workload]:
    """The workloads that have figures."""
    return {one["name"]: one for one in document["workloads"] if one["sizes"]}


def names_of(sizes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The pools that have a figure at one of the sizes, in the order of the report."""
    return list(dict.fromkeys(name for at in sizes for name in at["costs"] if at["costs"][name]))


def error_bars(middle: float, values: Sequence[float]) -> tuple[float, float]:
    """How far the least and the greatest value are from the median."""
    return middle - min(values), max(values) - middle


def curve(axes: Any, workload: Workload, label: str) -> None:
    """A line for each pool: the median at each size, and bars from least to greatest."""
    for name in names_of(workload["sizes"]):
        points = [at for at in workload["sizes"] if at["costs"].get(name)]
        medians = [statistics.median(at["costs"][name]) for at in points]
        gaps = [error_bars(m, at["costs"][name]) for m, at in zip(medians, points, strict=True)]
        axes.errorbar(
            [at["size"] for at in points],
            medians,
            yerr=list(zip(*gaps, strict=True)),
            marker="o",
            markersize=3,
            capsize=2,
            color=COLOURS.get(name),
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.grid(True, which="major", linewidth=0.3)


def groups(axes: Any, workloads: Sequence[Workload], unit: float, log: bool) -> None:
    """For each workload a bar for each pool, or a point where the axis is logarithmic, for a bar's
    length would mean nothing there; with least and greatest value."""
    names = names_of([one["sizes"][0] for one in workloads])
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        for group, one in enumerate(workloads):
            at = one["sizes"][0]
            if not at["costs"].get(name):
                continue
            values = [at["amount"] / cost / unit for cost in at["costs"][name]]
            middle = statistics.median(values)
            place = group + (index - (len(names) - 1) / 2) * width
            colour, gaps = COLOURS.get(name), [[gap] for gap in error_bars(middle, values)]
            if log:
                axes.errorbar(
                    place, middle, yerr=gaps, marker="o", capsize=3, color=colour, label=name
                )
            else:
                axes.bar(place, middle, width * 0.9, yerr=gaps, capsize=3, color=colour, label=name)
    if log:
        axes.set_yscale("log")
    axes.set_xticks(range(len(workloads)), [one["name"] for one in workloads])
    axes.grid(True, axis="y", which="major", linewidth=0.3)
    axes.set_axisbelow(True)


def legend(figure: Any) -> None:
    """Each pool once, beside all axes."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(list(found.values()), list(found), loc="outside right upper")


def sized(found: Mapping[str, Workload], pyplot: Any) -> Any:
    """Time against the size of the bound object, or None if nothing of it was measured."""
    curves = [
        (found[name], label)
        for name, label in (("bound-list", "list items"), ("bound-dict", "dict entries"))
        if name in found
    ]
    if not curves:
        return None
    figure, axes = pyplot.subplots(
        1, len(curves), figsize=SIZE_INCHES, sharey=True, squeeze=False, layout="constrained"
    )
    for place, (workload, label) in zip(axes[0], curves, strict=True):
        curve(place, workload, label)
    axes[0][0].set_ylabel("seconds a task (median, least to greatest)")
    return figure


def amounts(found: Mapping[str, Workload], pyplot: Any, measure: str) -> Any:
    """Tasks or gigabytes a second, or None if nothing of it was measured."""
    shown = [one for one in found.values() if one["measure"] == measure]
    if not shown:
        return None
    figure, axes = pyplot.subplots(figsize=SIZE_INCHES, layout="constrained")
    is_rate = measure == "rate"
    groups(axes, shown, 1.0 if is_rate else 1e9, log=is_rate)
    label = "tasks a second" if is_rate else "GB/s"
    axes.set_ylabel(f"{label} (median, least to greatest)")
    return figure


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the plots for which the document has figures; return the files."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    found = by_name(document)
    facts = document["machine"]
    below = (
        f"{facts['processor']}, cores: {facts['cores']}, {facts['python'].partition(',')[0]}, "
        f"{facts['date'][:10]}"
    )
    made: list[Path] = []
    with matplotlib.rc_context(RC):
        for name, title, figure in (
            ("bound-size", "Time of a task by size of the bound object", sized(found, pyplot)),
            ("tasks-per-second", "Tiny tasks", amounts(found, pyplot, "rate")),
            ("gigabytes-per-second", "Arrays of 8 MB", amounts(found, pyplot, "throughput")),
        ):
            if figure is None:
                continue
            legend(figure)
            figure.suptitle(title, fontsize=10)
            figure.supxlabel(below, fontsize=6, color="#666666")
            file = folder / f"{name}.svg"
            figure.savefig(file, format="svg", metadata={"Date": None})
            pyplot.close(figure)
            made.append(file)
    return made

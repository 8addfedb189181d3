"""The figures of the report, as SVG that follows the page's colours: legible in light and dark, text as text.

Matplotlib draws in stand-in colours, which become CSS variables. A figure that stands alone (a picture in a README)
carries their values itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from recs_core.compare.tables import Report, finished, reproducible, seconds, size
from recs_core.contract.errors import MissingExtra
from recs_core.reference.backend import ORACLE

INK, MUTED, GRID, PAPER, GOOD = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = tuple(f"#0a0a0{i}" for i in range(8))

VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", GOOD: "good"} | {
    colour: f"c{i}" for i, colour in enumerate(SERIES)
}

LIGHT = {
    "ink": "#1b2330", "muted": "#5b6675", "grid": "#dfe4ea", "paper": "#ffffff", "good": "#0f7b4f",
    "c0": "#2f6fed", "c1": "#e07b00", "c2": "#0a9a6b", "c3": "#9146d8", "c4": "#d6336c", "c5": "#0f8ea8",
    "c6": "#8a6d1f", "c7": "#64748b",
}  # fmt: skip
DARK = {
    "ink": "#e8edf4", "muted": "#9aa7b8", "grid": "#2c3645", "paper": "#121821", "good": "#4ad295",
    "c0": "#6ea3ff", "c1": "#ffae4d", "c2": "#3fd6a0", "c3": "#c08cff", "c4": "#ff7da8", "c5": "#4fd0e6",
    "c6": "#d9bd6a", "c7": "#a3b1c6",
}  # fmt: skip

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
STYLE = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.transparent": True,
}

SMALLEST = 1e-17
METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@10", "mrr")
PHASES: tuple[tuple[str, Callable[[dict[str, float]], float]], ...] = (
    ("start and import", lambda c: c["startup"] + c["import"]),
    ("first epoch", lambda c: c["first_epoch"]),
    ("other epochs", lambda c: c["training"] - c["first_epoch"]),
    ("evaluation", lambda c: c["evaluation"]),
)


@dataclass(frozen=True)
class Figure:
    """An SVG that follows the colours of the page it stands in."""

    name: str
    title: str
    alt: str
    svg: str

    def alone(self) -> str:
        """The same as a file of its own."""
        style = f"<style>{variables(LIGHT)} @media (prefers-color-scheme: dark) {{ {variables(DARK)} }}</style>"
        box = re.search(r'viewBox="([^"]+)"', self.svg)
        assert box is not None
        _, _, width, height = box[1].split()
        paper = f'<rect width="{width}" height="{height}" rx="8" style="fill: var(--paper)"/>'
        svg = self.svg.replace("<svg ", f'<svg width="{width}pt" height="{height}pt" ', 1)
        return re.sub(r"(</title>)", rf"\1{style}{paper}", svg, count=1)


def variables(colours: dict[str, str], selector: str = ":root") -> str:
    """A CSS rule that sets them."""
    return f"{selector} {{ {' '.join(f'--{name}: {value};' for name, value in colours.items())} }}"


def check_extra() -> None:
    """Raise `MissingExtra` unless matplotlib is installed."""
    from recs_core.environment import is_installed

    if not is_installed("matplotlib"):
        raise MissingExtra(
            "figures are drawn with matplotlib, not installed: `pip install matplotlib` (the extra recs-core[compare])"
        )


def figures(report: Report) -> list[Figure]:
    """All figures of the report; none if no backend finished."""
    if not finished(report):
        return []
    wide, flat = (4.6, 3.9), (4.6, 3.6)
    common = f"Overlap of the first {report['k']}"
    return [
        drawn("loss", "Loss", _loss_alt(report), wide, lambda f: _losses(f, report)),
        drawn("metrics", "Metrics", _metrics_alt(report), wide, lambda f: _metrics(f.subplots(), report)),
        drawn("overlap", common, _overlap_alt(report), flat, lambda f: _overlap(f.subplots(), report)),
        drawn("cost", "Time and memory", _cost_alt(report), flat, lambda f: _cost(f, report)),
    ]


def summary(report: Report) -> Figure:
    """Loss, differences, overlap and time in one picture."""

    def draw(figure: Any) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1), wspace=0.02)
        _losses(left, report)
        above, below = right.subfigures(2, 1, height_ratios=(1.25, 1))
        _overlap(above.subplots(), report)
        _time(below.subplots(), report)

    alt = f"{report['headline']}. {_loss_alt(report)} {_overlap_alt(report)}"
    return drawn("summary", str(report["headline"]), alt, (8.6, 4.3), draw, heading=str(report["headline"]))


def drawn(
    name: str,
    title: str,
    alt: str,
    inches: tuple[float, float],
    draw: Callable[[Any], None],
    heading: str | None = None,
) -> Figure:
    """What `draw` draws on a canvas of so many `inches`; `name` is part of every id in it, `alt` tells what is seen."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        canvas = Canvas(inches, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
        draw(canvas)
        if heading is not None:
            canvas.suptitle(heading, x=0.012, ha="left", fontsize=12, fontweight="bold")
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Figure(name, title, alt, _as_part_of_a_page(out.getvalue(), name, title, alt))


def _as_part_of_a_page(svg: str, name: str, title: str, alt: str) -> str:
    """Without prologue and fixed size, with alternative text, the page's font and its colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="[^"]+"', head[0])
    assert box is not None
    label = f'role="img" aria-labelledby="{name}-title {name}-alt"'
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    told = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-alt">{escape(alt)}</desc>'
    # the description first, so that what is put after the title stands above nothing
    told = told.replace("</title>", "").replace("<desc", "</title><desc", 1)
    svg = f"<svg {namespaces} {box[0]} {label}>{told}{svg[head.end() :]}"
    svg = re.sub(r'(id="|#)(?!0[0-9a-f]{5}\b)(?=[A-Za-z])(?!' + name + r"-(?:title|alt))", rf"\1{name}-", svg)
    svg = re.sub(r"font:([^;\"]*?)'DejaVu Sans'", rf"font:\1{FONT}", svg).replace('"DejaVu Sans"', FONT)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg


def _losses(figure: Any, report: Report) -> None:
    """Curves on top of one another, the first the widest, and below how far each step is from the oracle's."""
    import numpy as np

    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.35, 1))
    done, oracle = finished(report), report["oracle"]
    judge = oracle if oracle["ok"] else done[0]
    per_epoch = report["model"]["steps_per_epoch"]
    widths = np.linspace(6, 1.8, len(done)) if len(done) > 1 else [2.0]
    for i, (row, width) in enumerate(zip(done, widths, strict=True)):
        losses = row["losses"]["epochs"]
        above.plot(
            _from_one(losses), losses, color=SERIES[i], linewidth=width, label=row["name"], solid_capstyle="round"
        )
        mine, right = (np.array(found["losses"]["steps"]) for found in (row, judge))
        common = min(len(mine), len(right))
        apart = np.abs(mine[:common] - right[:common]) / np.maximum(1, np.abs(right[:common]))
        below.plot(_from_one(apart) / per_epoch, np.maximum(apart, SMALLEST), color=SERIES[i], linewidth=1.2,
                   marker="o", markersize=1.8)  # fmt: skip
    if oracle["ok"] and oracle["losses"]["epochs"]:
        losses = oracle["losses"]["epochs"]
        above.plot(_from_one(losses), losses, color=INK, linewidth=1, linestyle=(0, (3, 2)), marker="o", markersize=2.5,
                   label="oracle, float64")  # fmt: skip
    above.legend(loc="upper right")
    above.set_title("Loss, epoch by epoch")
    below.set_yscale("log")
    from_what = "the oracle" if oracle["ok"] else done[0]["name"]
    below.set_title(f"Each step's loss, apart from {from_what}'s")
    below.set_xlabel("epoch")
    limit = {"P1": 1e-9, "P3": 1e-5, "P3+P5": 1e-5}.get(report["tier"]["name"])
    if limit is not None:
        below.axhline(limit, color=GOOD, linewidth=1, linestyle=(0, (5, 3)))
        below.annotate(f"allowed {limit:.0e}", (0.995, limit), xycoords=("axes fraction", "data"), xytext=(0, 2),
                       textcoords="offset points", color=GOOD, fontsize=8, ha="right")  # fmt: skip
        below.set_ylim(top=limit * 30)


def _from_one(values: Any) -> Any:
    import numpy as np

    return np.arange(1, len(values) + 1)


def _metrics(axes: Any, report: Report) -> None:
    """A group of bars per metric, one per backend, popularity as a hollow one."""
    done = finished(report)
    columns: list[tuple[str, Any, str | None]] = [
        (row["name"], row["metrics"], SERIES[i]) for i, row in enumerate(done)
    ]
    if report["popularity"]:
        columns.append(("popularity", report["popularity"], None))
    names = [name for name in METRICS if name in columns[0][1]]
    height = 0.8 / len(columns)
    for i, (label, values, colour) in enumerate(columns):
        places = [g + (i - (len(columns) - 1) / 2) * height for g in range(len(names))]
        found = [values[name] for name in names]
        bars = [v["value"] for v in found]
        spread = [[max(0, v["value"] - v["low"]) for v in found], [max(0, v["high"] - v["value"]) for v in found]]
        look = (
            {"color": colour, "edgecolor": "none"}
            if colour
            else {"color": "none", "edgecolor": MUTED, "linewidth": 0.8}
        )
        axes.barh(places, bars, height * 0.86, label=label, **look)
        axes.errorbar(bars, places, xerr=spread, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_title(f"Metrics of {report['data']['evaluated_on'].split(',')[0]}, with 95 % intervals", fontsize=9)
    axes.legend(ncols=2, loc="upper left", bbox_to_anchor=(0, -0.08))


def _overlap(axes: Any, report: Report) -> None:
    """How many of the first k two backends have in common, pair by pair."""
    names, value = _overlaps(report)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            share = 1.0 if i == j else value.get((first, second), value.get((second, first)))
            if share is None:
                continue
            axes.add_patch(_square(j, i, SERIES[0], 0.08 + 0.62 * share))
            axes.text(j, i, f"{share:.3f}" if share < 1 else "1", ha="center", va="center", color=INK, fontsize=9)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"Share of the first {report['k']} in common")


def _square(x: float, y: float, colour: str, alpha: float) -> Any:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch((x - 0.46, y - 0.46), 0.92, 0.92, boxstyle="round,pad=0,rounding_size=0.06",
                          facecolor=colour, edgecolor="none", alpha=alpha)  # fmt: skip


def _overlaps(report: Report) -> tuple[list[str], dict[tuple[str, str], float]]:
    value = {(p["first"], p["second"]): p["overlap"] for p in report["pairs"] if p["overlap"] is not None}
    names = [row["name"] for row in finished(report)]
    return names + ([ORACLE] if any(ORACLE in pair for pair in value) else []), value


def _cost(figure: Any, report: Report) -> None:
    above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
    _time(above, report)
    done = finished(report)
    for key, label, alpha in (("memory_peak", "peak", 1.0), ("memory_imported", "after import", 0.45)):
        values = [row["cost"][key] / 1e6 for row in done]
        colours = [SERIES[0] if key == "memory_peak" else PAPER] * len(done)
        below.barh(range(len(done)), values, 0.6, color=colours, alpha=alpha, label=label)
    for i, row in enumerate(done):
        below.annotate(size(row["cost"]["memory_peak"]), (row["cost"]["memory_peak"] / 1e6, i), xytext=(3, 0),
                       textcoords="offset points", va="center", fontsize=8, color=INK)  # fmt: skip
    _rows(below, [row["name"] for row in done])
    below.margins(x=0.16)
    below.set_title("Peak memory, MB (pale: after import)")


def _time(axes: Any, report: Report) -> None:
    """Where the time goes, phase after phase."""
    done = finished(report)
    ends = [0.0] * len(done)
    for i, (label, of) in enumerate(PHASES):
        values = [of(row["cost"]) for row in done]
        axes.barh(range(len(done)), values, 0.6, left=ends, color=SERIES[(7, 6, 5, 3)[i]], label=label)
        ends = [end + value for end, value in zip(ends, values, strict=True)]
    for i, end in enumerate(ends):
        axes.annotate(
            seconds(end), (end, i), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    _rows(axes, [row["name"] for row in done])
    axes.margins(x=0.16)
    axes.set_title("Time, seconds")
    axes.legend(
        ncols=2, loc="upper left", bbox_to_anchor=(-0.02, -0.18), columnspacing=1.2, handlelength=1.2, labelspacing=0.2
    )


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _loss_alt(report: Report) -> str:
    done = finished(report)
    ends = ", ".join(f"{row['name']} {row['losses']['epochs'][-1]:.4f}" for row in done)
    apart = [row["oracle"]["loss"] for row in done if row["oracle"]]
    against = f" At most {max(apart):.1e} from the oracle, relative to the loss." if apart else ""
    return f"Loss curves lie on one another; mean loss per target in the last epoch: {ends}.{against}"


def _metrics_alt(report: Report) -> str:
    done = finished(report)
    name = next((m for m in METRICS if m in done[0]["metrics"]), None)
    if name is None:
        return "No metrics."
    return (
        f"Bars with intervals; {name}: "
        + ", ".join(f"{r['name']} {r['metrics'][name]['value']:.4f}" for r in done)
        + "."
    )


def _overlap_alt(report: Report) -> str:
    _, value = _overlaps(report)
    if not value:
        return "One backend alone: no lists to compare."
    (first, second), least = min(value.items(), key=lambda found: found[1])
    return f"Share of the first {report['k']} in common; the least is {least:.3f}, between {first} and {second}."


def _cost_alt(report: Report) -> str:
    parts = [
        f"{row['name']} {seconds(row['cost']['training'])} of training, peak memory {size(row['cost']['memory_peak'])}"
        for row in finished(report)
    ]
    again = "; ".join(f"{row['name']}: {reproducible(row)}" for row in finished(report))
    return f"Bars: {', '.join(parts)}. Repeated: {again}."

"""A figure of indexes: what each finds, against how quickly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recs_core.compare.figures import GRID, MUTED, SERIES, Figure, drawn
from recs_core.index.tuning import Measured


def tradeoff(tried: Sequence[Measured], recall: float) -> Figure:
    """Recall against queries per second, a line per index; the recall that is asked for is drawn across."""

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        names = list(dict.fromkeys(one.spec.partition(":")[0] for one in tried))
        for name, colour in zip(names, SERIES * len(names), strict=False):
            line = [one for one in tried if one.spec.partition(":")[0] == name]
            axes.plot([one.per_second for one in line], [one.recall for one in line], "o-", color=colour, label=name)
        axes.axhline(recall, color=MUTED, linestyle="--", linewidth=1)
        axes.set(xscale="log", xlabel="queries per second, one at a time", ylabel=f"recall@{tried[0].k}")
        axes.grid(color=GRID)
        axes.legend()

    said = "; ".join(f"{one.spec} finds {one.recall:.3f} at {one.per_second:,.0f} per second" for one in tried)
    return drawn("tradeoff", "Recall against speed", f"{said}.", (5.6, 3.9), draw)

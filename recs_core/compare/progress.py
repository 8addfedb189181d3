"""What the workers are doing, live on a terminal, a line per stage elsewhere; always on stderr."""

from __future__ import annotations

import threading
import time
from typing import Any

from recs_core.compare.job import Job

WAITING, BUSY, DONE, FAILED = "·", "▸", "✓", "✗"
PURPOSES = {"measure": "", "repeat": " again", "oracle": ""}


class Board:
    """One row per job. `expect` adds the rows; `hear` is the workers' listener, called from their threads."""

    def __init__(self, steps: int, *, live: bool) -> None:
        self.steps, self.live = steps, live
        self._rows: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._display: Any = None

    def __enter__(self) -> Board:
        if self.live:
            from rich.console import Console
            from rich.live import Live

            self._display = Live(
                console=Console(stderr=True), get_renderable=self._table, refresh_per_second=5, transient=True
            )
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()

    def expect(self, jobs: list[Job]) -> None:
        """These jobs are to come."""
        with self._lock:
            for job in jobs:
                steps = self.steps if job.purpose == "measure" else job.stop_after
                self._rows[_name(job)] = {"mark": WAITING, "what": "waiting", "of": steps}

    def hear(self, job: Job, message: dict[str, Any]) -> None:
        """What a worker says."""
        stage = message["stage"]
        with self._lock:
            row = self._rows[_name(job)]
            new = row["what"] != stage and stage not in ("epoch", "started")
            row.setdefault("start", time.monotonic())
            row["mark"] = {"done": DONE, "failed": FAILED}.get(stage, BUSY)
            row["what"] = message.get("problem") or ("training" if stage == "epoch" else stage)
            row["steps"] = message.get("steps", row.get("steps"))
            row["loss"] = message.get("loss", row.get("loss"))
            if stage in ("done", "failed"):
                row["end"] = time.monotonic()
        if new and not self.live:
            self._print(f"{_name(job)}: {row['what']}")

    def _print(self, line: str) -> None:
        import typer

        typer.echo(line, err=True)

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        with self._lock:
            for name, row in self._rows.items():
                style = {DONE: "green", FAILED: "red", BUSY: "bold"}.get(row["mark"], "dim")
                training = row["what"] == "training" and row.get("steps")
                bar = ProgressBar(row["of"], row["steps"], width=24) if training else ""
                loss = f"loss {row['loss']:.4f}" if row.get("loss") is not None else ""
                end = row.get("end", time.monotonic())
                seconds = f"{end - row['start']:.0f} s" if "start" in row else ""
                cells = (row["mark"], name, row["what"])
                table.add_row(*(Text(cell, style=style) for cell in cells), bar, loss, seconds)
        return table


def _name(job: Job) -> str:
    return job.backend + PURPOSES[job.purpose]

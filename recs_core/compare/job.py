"""What a worker process is asked to do, as a JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Purpose = Literal["measure", "repeat", "oracle"]

RESULT, ARRAYS = "result.json", "arrays.npz"


@dataclass(frozen=True)
class Job:
    """One training in a process of its own.

    `purpose`: "measure" trains, times, evaluates, recommends and saves; "repeat" trains again, to be compared bit by
    bit; "oracle" trains the reference instead of a backend. `experiment`: the JSON of an `Experiment`. `stop_after`:
    the steps to take (to "measure", a step at which weights are looked at). `queries`: ids to recommend for. `k`: the
    length of their lists. `threads`: CPUs that the process may use. `folder`: where result and arrays go; it exists.
    `log`: the file for what the process prints.
    """

    backend: str
    purpose: Purpose
    experiment: dict[str, Any]
    queries: list[Any]
    k: int
    threads: int
    folder: str
    log: str
    stop_after: int

    def write(self) -> Path:
        """The JSON file in the job's folder."""
        path = Path(self.folder, "job.json")
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: str | Path) -> Job:
        """As written by `write`."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

"""`recs doctor`: does each backend work on this machine? Each is tried in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from recs_core.cli.output import AsJson, print_json, print_table

TIME_LIMIT = 600  # seconds; compiling a first step takes some frameworks a minute on a slow machine
VARIABLES = ("CUDA_VISIBLE_DEVICES", "KERAS_BACKEND", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
             "RECS_BACKEND", "RECS_CONFIG", "TF_USE_LEGACY_KERAS", "JAX_ENABLE_X64")  # fmt: skip


def doctor(as_json: AsJson = False) -> None:
    """Try a training step of every backend; exit code 1 if one is broken."""
    machine = _machine()
    rows = [probe(name) for name in _names()]
    if as_json:
        print_json({"machine": machine, "backends": rows})
    else:
        for name, value in machine.items():
            typer.echo(f"{name:10} {value}")
        print_table(
            ("backend", "health", "versions", "devices", "finding"),
            [(r["name"], r["health"], r.get("versions"), _devices(r), r["finding"]) for r in rows],
        )
    if any(row["health"] == "broken" for row in rows):
        raise typer.Exit(1)


def _devices(row: dict[str, Any]) -> str | None:
    """The devices to choose from, and what each is."""
    return ", ".join(f"{name} ({what})" for name, what in row.get("devices", {}).items()) or None


def _names() -> list[str]:
    """Every backend, and every engine of those that have some."""
    from recs_core.plugin.manager import list_backends

    names = []
    for row in list_backends():
        engines = row.info.engines if row.info else ()
        names += [f"{row.name}[{engine}]" for engine in engines] or [row.name]
    return list(dict.fromkeys(names))  # rivals claim one name


def _machine() -> dict[str, str]:
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": f"{platform.python_version()} on {platform.platform()}",
        "numpy": np.__version__,
        "BLAS": f"{blas['name']} {blas['version']}",
        "CPUs": f"{usable} usable of {os.cpu_count()}",
        "variables": ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ) or "none set",
    }


def probe(name: str) -> dict[str, Any]:
    """What `recs_core.cli.probe` finds, or how its process ended: name, health ("ok", "absent", "broken"), finding."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "recs_core.cli.probe", name, str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        except subprocess.TimeoutExpired:
            return {"name": name, "health": "broken", "finding": f"no answer within {TIME_LIMIT} s"}
        if answer.exists():
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return {"name": name, **found}
    said = done.stderr.strip().splitlines()
    last = f": {said[-1]}" if said else ""
    return {"name": name, "health": "broken", "finding": f"its process ended with code {done.returncode}{last}"}

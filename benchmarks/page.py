"""Run every benchmark, one after the other, and write docs/benchmarks.md.

    python benchmarks/page.py [--only torch-4096x64 ranks …] [--page docs/benchmarks.md]

Needs both plugins, jax, faiss-cpu and keras-rs. Takes about half an hour on 2 cores that do nothing else, a part at
most eight minutes; one that fails or is not asked for keeps what the page says of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

SECTIONS = {
    "From a file to a split": {"reading": "reading.py"},
    "Rows beyond memory": {"ingest": "ingest.py --rows 20 --memory 1GB"},
    "A step of the torch backend": {
        "torch-memory": "step_torch.py --only memory",
        "torch-4096x16": "step_torch.py --only 4096x16",
        "torch-4096x64": "step_torch.py --only 4096x64",
        "torch-8192x64": "step_torch.py --only 8192x64 --rounds 10",
        "torch-adagrad": "step_torch.py --only adagrad",
        "torch-adam": "step_torch.py --only adam",
        "torch-dense-adam": "step_torch.py --only dense-adam --rounds 3",
    },
    "A step of the TensorFlow backend": {
        "tensorflow-in-batch": "step_tensorflow.py --only batch-4096",
        "tensorflow-adagrad": "step_tensorflow.py --only adagrad",
        "tensorflow-adam": "step_tensorflow.py --only adam --rounds 3",
    },
    "A step of the Keras backend": {
        "keras-torch": "step_keras.py --engine torch",
        "keras-tensorflow": "step_keras.py --engine tensorflow",
        "keras-jax": "step_keras.py --engine jax",
    },
    "Given vectors": {
        "vectors-step": "vectors.py --only step --rounds 5 --threads 1 --cpu-time",
        "vectors-memory": "vectors.py --only memory",
    },
    "Histories in order, in the NumPy runtime": {"histories": "histories.py"},
    "A PyTorch loop of one's own": {"loop-torch": "loop_torch.py"},
    "Several workers": {"workers": "workers.py"},
    "Steps as a share of fit": {"fit-share": "fit_share.py --backend torch --backend tensorflow"},
    "Exact ranks": {"ranks": "ranks.py"},
    "Exact top-k": {"topk": "topk.py", "topk-4096": "topk.py --queries 4096"},
    "Filters": {"filters": "filters.py"},
    "Approximate indexes": {"indexes": "indexes.py --index faiss-hnsw --index int8"},
    "Evaluation beside TFRS": {"evaluate-tensorflow": "evaluate_tensorflow.py --rounds 3"},
    "The bundle": {"bundle": "bundle.py"},
    "The service": {
        "service": "service.py --seconds 4",
        "service-hnsw": "service.py --candidates 1000000 --index faiss-hnsw --connections 16 --rounds 3 --seconds 4",
    },
}
"""Title → part → the command that makes it."""

COMMANDS = {name: command for parts in SECTIONS.values() for name, command in parts.items()}
HEAD = """# Benchmarks

Made by `python benchmarks/page.py`, a part at a time; the command above a table makes that table alone.
[benchmarks/](../benchmarks/README.md) says how each is measured. Contenders take turns in one process, and what counts
is the ratio of medians: the times themselves are of one machine on one day.
"""


def main() -> None:
    """Run the parts asked for; the page keeps the others."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    asked.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    options = asked.parse_args()
    for name in options.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        found = _run(COMMANDS[name])
        if found is not None:
            # Read again: a part takes minutes, and another run may have written its own meanwhile.
            _write(options.page, _results(options.page) | {COMMANDS[name]: found})


def _run(command: str) -> str | None:
    """What the script prints, after a line on the machine; None if it fails."""
    done = subprocess.run([sys.executable, *command.split()], cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{command} failed with {done.returncode}", file=sys.stderr)
        return None
    kept = [line for line in done.stdout.splitlines() if not re.match(r"[IWE]\d{4}|WARNING|\{\"", line)]
    text = "\n".join(kept).strip()
    shown = text if text.startswith("|") or "\n|" in text else f"```text\n{text}\n```"
    return f"{_processor()}, {os.cpu_count()} cores\n\n{shown}"


def _processor() -> str:
    """The processor's name, or at least its kind."""
    described = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", described.read_text()) if described.exists() else None
    return named[1] if named else platform.machine()


def _results(page: Path) -> dict[str, str]:
    """What the page says now, by command."""
    if not page.exists():
        return {}
    text = re.sub(r"^## .*\n", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pieces = re.split(r"^`python benchmarks/(.*?)`, ", text, flags=re.MULTILINE)[1:]
    return {command: result.strip() for command, result in zip(pieces[::2], pieces[1::2], strict=True)}


def _write(page: Path, results: dict[str, str]) -> None:
    """The page: every section that has results."""
    blocks = [HEAD]
    for title, parts in SECTIONS.items():
        known = [command for command in parts.values() if command in results]
        if known:
            blocks.append(f"## {title}\n")
            blocks += [f"`python benchmarks/{command}`, {results[command]}\n" for command in known]
    page.write_text("\n".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    main()

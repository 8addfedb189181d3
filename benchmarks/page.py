"""Run every benchmark, one after the other, and write docs/benchmarks.md.

    python benchmarks/page.py [--only step_torch ranks …] [--page docs/benchmarks.md]

Needs both plugins, jax, faiss-cpu and keras-rs. Takes about half an hour on 2 cores that do nothing else; a part that fails or is
not asked for keeps what the page says of it.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "step_torch": ("A step of the torch backend", ["step_torch.py", "--rounds", "10"]),
    "step_tensorflow": ("A step of the TensorFlow backend", ["step_tensorflow.py", "--rounds", "5"]),
    "step_keras_torch": ("A step of the Keras backend on torch", ["step_keras.py", "--engine", "torch"]),
    "step_keras_tensorflow": ("A step of the Keras backend on TensorFlow", ["step_keras.py", "--engine", "tensorflow"]),
    "step_keras_jax": ("A step of the Keras backend on JAX", ["step_keras.py", "--engine", "jax"]),
    "ranks": ("Exact ranks", ["ranks.py"]),
    "topk": ("Exact top-k", ["topk.py"]),
    "evaluate_tensorflow": ("Evaluation beside TFRS", ["evaluate_tensorflow.py", "--rounds", "3"]),
    "bundle": ("The bundle", ["bundle.py"]),
}


def main() -> None:
    """Run the parts asked for; the page keeps the others."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    asked.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    options = asked.parse_args()
    parts = _parts(options.page)
    for name in options.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        parts[name] = _run(PARTS[name][1]) or parts.get(name, "Not measured.")
        _write(options.page, parts)


def _run(command: list[str]) -> str | None:
    """What the script prints, with the command above it; None if it fails."""
    done = subprocess.run([sys.executable, *command], cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{command[0]} failed with {done.returncode}", file=sys.stderr)
        return None
    kept = [line for line in done.stdout.splitlines() if not re.match(r"[IWE]\d{4}|WARNING|\{\"", line)]
    text = "\n".join(kept).strip()
    shown = text if text.startswith("|") or "\n|" in text else f"```\n{text}\n```"
    return (
        f"`python benchmarks/{' '.join(command)}`, {platform.processor() or platform.machine()}, 2 threads\n\n{shown}"
    )


def _parts(page: Path) -> dict[str, str]:
    """What the page says now, part by part."""
    if not page.exists():
        return {}
    blocks = re.split(r"^## (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    titles = {title: name for name, (title, _) in PARTS.items()}
    return {titles[t]: body.strip() for t, body in zip(blocks[::2], blocks[1::2], strict=True) if t in titles}


def _write(page: Path, parts: dict[str, str]) -> None:
    head = (
        "# Benchmarks\n\nMade by `python benchmarks/page.py`; [benchmarks/](../benchmarks/README.md) says how each is "
        "measured. Contenders take turns in one process, and what counts is the ratio of medians: the times themselves "
        "are of one machine on one day.\n"
    )
    body = [f"## {title}\n\n{parts[name]}\n" for name, (title, _) in PARTS.items() if name in parts]
    page.write_text("\n".join([head, *body]), encoding="utf-8")


if __name__ == "__main__":
    main()

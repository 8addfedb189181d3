"""The report as files: report.json, report.md, report.html and figures."""

from __future__ import annotations

import json
from pathlib import Path

from recs_core.compare.figures import figures, summary
from recs_core.compare.html import html
from recs_core.compare.markdown import markdown
from recs_core.compare.tables import Report
from recs_core.contract.errors import ConfigError
from recs_core.storage.whole import check_folder


def prepare(folder: Path, *, force: bool) -> None:
    """An output folder to write into. Raises `ConfigError` if it exists without `force`, or cannot be written."""
    check_folder(folder, "--out", ConfigError)
    if folder.exists() and not force:
        raise ConfigError(f"{folder} exists; choose another --out, or --force to write into it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written, {error.strerror or error}; choose another --out") from error


def write(report: Report, folder: Path) -> None:
    """All files of a report, into a folder that exists. Raises `ConfigError` if one cannot be written."""
    drawn = figures(report)
    alone = [*drawn, *([summary(report)] if drawn else [])]
    texts = {f"figures/{figure.name}.svg": figure.alone() for figure in alone}
    texts["report.json"] = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    texts["report.md"] = markdown(report, [(f"figures/{figure.name}.svg", figure.alt) for figure in drawn])
    texts["report.html"] = html(report, drawn)
    for name, text in texts.items():
        path = folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written, {error.strerror or error}") from error

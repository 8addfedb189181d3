"""These tests also run from a bare checkout, on a machine that has a GPU and little else:

    PYTHONPATH=.:plugins/torch/src python3 -m pytest -q tests/device

needs torch, numpy, pyarrow, pluggy, rich, typer and pytest; nothing of this project need be installed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _as_if_installed(project: Path, folder: Path) -> None:
    """The metadata that an installation leaves, of entry points alone, so that plugins are found as ever."""
    stated = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    place = folder / f"{stated['name'].replace('-', '_')}-{stated['version']}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {stated['name']}\nVersion: {stated['version']}\n")
    groups = {group: points for group, points in stated["entry-points"].items() if group.startswith("recs_core.")}
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    (place / "entry_points.txt").write_text("\n".join(lines))


def _reached(folder: Path) -> None:
    """For this process, and those that it starts."""
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))


_FOLDER = Path(tempfile.mkdtemp(prefix="recs-core-device-"))
_known = {point.name for point in entry_points(group="recs_core.backends")}
for _name, _project in (("keras", ROOT), ("torch", ROOT / "plugins/torch")):
    if _name not in _known:
        _as_if_installed(_project, _FOLDER)
if find_spec("threadpoolctl") is None:  # it decides how fast NumPy multiplies, and no number
    (_FOLDER / "threadpoolctl.py").write_text(
        "class ThreadpoolController:\n"
        "    def info(self):\n        return []\n\n"
        "    def select(self, **kinds):\n        return self\n\n"
        "    def limit(self, **limits):\n        return self\n\n"
        "    def restore_original_limits(self):\n        pass\n"
    )
_reached(_FOLDER)

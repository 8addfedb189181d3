"""`run.json`: an experiment under "run", and what came of it beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from recs_core.contract.errors import BundleError, ConfigError
from recs_core.storage.whole import why_unread


def read_json(path: Path) -> Any:
    """What a `run.json` holds. Raises `ConfigError` if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {why_unread(error)}; name what `recs train` wrote") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not JSON that holds a run, nor text; name what `recs train` wrote") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON that holds a run, {error}; name what `recs train` wrote") from error


def take_back(folder: Path) -> None:
    """Remove `run.json`, and the folder if nothing else is in it: of a run that was refused before it began."""
    (folder / "run.json").unlink(missing_ok=True)
    with suppress(OSError):  # it holds what others wrote
        folder.rmdir()


def write_json(folder: Path, data: Mapping[str, Any]) -> None:
    """Write `run.json` whole or not at all. Raises `BundleError` if it cannot be written."""
    path, new = folder / "run.json", folder / ".run.json.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written, {error.strerror or error}") from error

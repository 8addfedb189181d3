"""docs/capabilities.md, made from the manifests; run as a program, this file writes it.

A manifest imports no framework, so the plugins' are read from where they lie, installed or not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recs_core.index.plugin import recs_indexes
from recs_core.keras_backend.plugin import INFO as KERAS
from recs_core.plugin import BACKEND_CAPABILITIES, INDEX_CAPABILITIES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "capabilities.md"
PLUGINS = {
    "torch": ROOT / "plugins/torch/src/recs_core_torch/plugin.py",
    "tensorflow": ROOT / "plugins/tensorflow/src/recs_core_tensorflow/plugin.py",
    "faiss": ROOT / "plugins/faiss/src/recs_core_faiss/plugin.py",
    "qdrant": ROOT / "plugins/qdrant/src/recs_core_qdrant/plugin.py",
}
HEAD = """\
# Capabilities

<!-- Made by tests/test_docs_capabilities.py from the manifests; do not edit. -->

What each backend and each index says that it can do. The conformance suite ([conformance.md](conformance.md)) holds
them to a yes, and to a no: the call raises `UnsupportedFeature` with the reason given here. `sparse_rows`,
`memory_map` and `float64_scores` say what something costs or how fine it is, `storable` and `updatable` which methods
an index has: there is no call to refuse.
`recs backends` shows the same for what is installed.
"""


def hooks_of(path: Path) -> Any:
    """A plugin's module, from its file."""
    spec = importlib.util.spec_from_file_location(f"manifest_of_{path.parent.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def offered(plugin: Any, *hooks: str) -> list[Any]:
    """The manifests that a plugin offers by these hooks, of which it need not have any."""
    return [info for hook in hooks if hasattr(plugin, hook) for info in getattr(plugin, hook)()]


def table(what: str, known: Mapping[str, str], infos: list[Any]) -> list[str]:
    """A row per capability, a column per manifest; reasons below."""
    reasons: list[str] = []
    rows = []
    for name, meaning in known.items():
        cells = []
        for info in infos:
            declared = info.capabilities[name]
            lacks = {engine: nos[name] for engine, nos in getattr(info, "lacks", {}).items() if name in nos}
            able = f"yes; {', '.join(f'`[{engine}]`' for engine in lacks)}: no" if lacks else "yes"
            cells.append(able if declared is True else "no")
            if declared is not True:
                reasons.append(f"- `{info.name}`, `{name}`: {declared.reason}")
            reasons += [f"- `{info.name}[{engine}]`, `{name}`: {no.reason}" for engine, no in lacks.items()]
        rows.append(f"| `{name}` | {meaning} | {' | '.join(cells)} |")
    head = [
        f"| {what} | meaning | {' | '.join(f'`{info.name}`' for info in infos)} |",
        "|---|---|" + "---|" * len(infos),
    ]
    return [*head, *rows, *(["", "Reasons:", "", *reasons] if reasons else [])]


def page() -> str:
    """The page's text."""
    plugins = [hooks_of(path) for path in PLUGINS.values()]
    backends = [KERAS, *(info for plugin in plugins for info in offered(plugin, "recs_backends"))]
    indexes = [*recs_indexes(), *(info for plugin in plugins for info in offered(plugin, "recs_indexes"))]
    engines = [f"- `{info.name}`: {info.summary}{_engines(info)}" for info in backends]
    kinds = [f"- `{info.name}`: {info.summary}; finds {info.finds}" for info in indexes]
    parts = [HEAD, "## Backends\n", *engines, "", *table("capability", BACKEND_CAPABILITIES, backends)]
    parts += ["\n## Indexes\n", *kinds, "", *table("capability", INDEX_CAPABILITIES, indexes)]
    return "\n".join(parts) + "\n"


def _engines(info: Any) -> str:
    return f"; engines: {', '.join(f'`{info.name}[{engine}]`' for engine in info.engines)}" if info.engines else ""


def test_the_page_is_what_the_manifests_say() -> None:
    for name, path in PLUGINS.items():
        offers = offered(hooks_of(path), "recs_backends", "recs_indexes")
        assert any(info.name.partition("-")[0] == name for info in offers)
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/test_docs_capabilities.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

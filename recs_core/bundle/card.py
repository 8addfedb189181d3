"""README.md of a bundle: the model card, written from the run itself. For people; nothing reads it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from recs_core.bundle.natives import Native, of_manifest
from recs_core.data.schema import Side
from recs_core.specs import from_json


def card(manifest: Mapping[str, Any], name: str) -> str:
    """Markdown from the fields of a manifest; `name` is the folder's."""
    sections = [
        f"# {name}\n\nA two-tower retrieval model in the bundle format of recs-core (see `manifest.json`).",
        _loading(name, of_manifest(manifest)),
        _section("Data", _data(manifest)),
        _section("Metrics", _metrics(manifest["metrics"])),
        _section("Settings that differ from the defaults", _settings(manifest)),
        _section("Towers", _towers(manifest["model"])),
        _section("Training log", _log(manifest["history"])),
        _section("Made by", _provenance(manifest)),
    ]
    return "\n\n".join(part for part in sections if part) + "\n"


def _loading(name: str, natives: Mapping[Side, Native]) -> str:
    if natives:
        modules = ", ".join(f'"{side}": {native.built(side)}' for side, native in natives.items())
        imports = {f"import {n.rebuild.partition(':')[0]}\n" for n in natives.values() if n.rebuild is not None}
        unsaid = [f"`{n.built(side)}`, {n}" for side, n in natives.items() if n.rebuild is None]
        build = f"build {' and '.join(unsaid)}," if unsaid else "build each native module"
        return (
            f"## Load it\n\nNo code is in here: {build} and hand it over, to take its weights.\n\n"
            f"```python\n{''.join(sorted(imports))}import recs_core as recs\n\n"
            f'model = recs.load("{name}", backend="{next(iter(natives.values())).backend}", native={{{modules}}})\n'
            'model.recommend(["…"], k=10, exclude="seen")\n```'
        )
    return (
        "## Load it\n\n```python\nimport recs_core as recs\n\n"
        f'model = recs.load("{name}")  # on the backend you use, to serve or to train on\n'
        f'model = recs.load("{name}", runtime="numpy")  # with no framework at all\n'
        'model.recommend(["…"], k=10, exclude="seen")\n```\n\n'
        f"```sh\nrecs bundle verify {name}\nrecs recommend {name} --query … -k 10 --exclude-seen\n```"
    )


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _data(manifest: Mapping[str, Any]) -> str:
    data, schema = manifest["provenance"]["data"], manifest["schema"]
    rows = [("query", f"`{schema['query_name']}`"), ("candidate", f"`{schema['candidate_name']}`")]
    rows += [(key, f"{data[key]:,}") for key in ("rows", "queries", "candidates") if key in data]
    if data.get("from") is not None:
        rows.append(("from, to", f"{_time(data['from'])}, {_time(data['to'])}"))
    if "digest" in data:
        rows.append(("SHA-256", f"`{data['digest']}`"))
    return _table(("", ""), rows)


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _metrics(metrics: Mapping[str, Any]) -> str:
    return _table(
        ("metric", "value", "interval"),
        [
            (name, f"{value[0]:.4f}", f"{value[1]:.4f} … {value[2]:.4f}")
            if isinstance(value, list)
            else (name, f"{value:.4f}", "")
            for name, value in metrics.items()
        ],
    )


def _settings(manifest: Mapping[str, Any]) -> str:
    model, run = manifest["model"], manifest["run"]
    training = from_json(model["training"] if run is None else run["settings"])
    rows = [("seed", model["seed"]), ("dtype", model["dtype"]), ("optimizer", _brief(from_json(model["optimizer"])))]
    for name, spec in (("retrieval", from_json(model["retrieval"])), ("training", training)):
        rows += [(f"{name}.{field}", value) for field, value in _changed(spec)]
    return _table(("setting", "value"), [(name, f"`{value}`") for name, value in rows])


def _towers(model: Mapping[str, Any]) -> str:
    return "\n".join(f"* {side}: `{brief_tower(model, side)}`" for side in ("query", "candidate"))


def brief_tower(model: Mapping[str, Any], side: str) -> str:
    """A tower in one line, defaults left out. `model`: as in the manifest."""
    spec = from_json(model[side])
    if side in model.get("native", {}):
        native = Native(**model["native"][side])
        built = f", built by {native.rebuild}" if native.rebuild else ""
        return f"{native}{built}, of {', '.join(feature.name for feature in spec.features)}"
    rest = [f"{name}={value}" for name, value in _changed(spec) if name != "features"]
    return ", ".join([*map(_brief, spec.features), *rest])


def _brief(spec: Any) -> str:
    """The spec as one would type it, defaults left out."""
    return f"{type(spec).__name__}({', '.join(f'{name}={value!r}' for name, value in _changed(spec))})"


def _changed(spec: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(spec, f.name)) for f in fields(spec) if getattr(spec, f.name) != f.default]


def _log(history: Mapping[str, Any]) -> str:
    """At most 20 epochs, the last among them; the one whose weights are in the bundle in bold."""
    records = history["epochs"]
    if not records:
        return ""
    kept = history["best_epoch"] or records[-1]["epoch"]
    every = -(-len(records) // 20)
    shown = [r for r in records if r["epoch"] == kept or (len(records) - r["epoch"]) % every == 0]
    names = list(dict.fromkeys(name for record in shown for name in record["metrics"]))
    rows = []
    for r in shown:
        cells = [str(r["epoch"]), f"{r['loss']:.4f}", f"{r['seconds']:.1f}"]
        cells += [f"{r['metrics'][name]:.4f}" if name in r["metrics"] else "" for name in names]
        rows.append([f"**{cell}**" if cell and r["epoch"] == kept else cell for cell in cells])
    return _table(("epoch", "loss", "seconds", *names), rows) + f"\n\nEnded: {history['stopped']}."


def _provenance(manifest: Mapping[str, Any]) -> str:
    provenance = manifest["provenance"]
    rows = [
        ("created", manifest["created"]),
        *provenance["versions"].items(),
        ("command", f"`{provenance['command']}`"),
    ]
    if manifest["licence"]:
        rows.append(("licence", manifest["licence"]))
    return _table(("", ""), rows)


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers), *lines]) if lines else ""

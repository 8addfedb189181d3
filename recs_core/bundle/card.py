"""README.md of a bundle: the model card, written from the run itself. For people; nothing reads it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any

from recs_core.bundle.stated import HistoryStated, IndexStated, Manifest, ModelStated, spec
from recs_core.contract.as_json import TYPES
from recs_core.contract.batch import Side
from recs_core.contract.errors import BundleError
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.training import TrainingSpec
from recs_core.evaluation.report import number
from recs_core.fitted import Native

SIDES: tuple[Side, Side] = ("query", "candidate")


def card(manifest: Manifest, name: str) -> str:
    """Markdown from a manifest; `name` is the folder's."""
    sections = [
        f"# {name}\n\nA two-tower retrieval model in the bundle format of recs-core (see `manifest.json`).",
        _loading(name, manifest.model.native),
        _section("Data", _data(manifest)),
        _section("Metrics", _metrics(manifest.metrics)),
        _section("Index", _index(manifest.index)),
        _section("Settings that differ from the defaults", _settings(manifest)),
        _section("Towers", _towers(manifest.model)),
        _section("Training log", _log(manifest.history)),
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


def _data(manifest: Manifest) -> str:
    data, schema = manifest.provenance.data, manifest.schema
    rows = [("query", f"`{schema.query_name}`"), ("candidate", f"`{schema.candidate_name}`")]
    sizes = {"rows": data.rows, "queries": data.queries, "candidates": data.candidates}
    rows += [(key, f"{size:,}") for key, size in sizes.items() if size is not None]
    if data.from_ is not None and data.to is not None:
        rows.append(("from, to", f"{_time(data.from_)}, {_time(data.to)}"))
    if data.digest is not None:
        rows.append(("SHA-256", f"`{data.digest}`"))
    return _table(("", ""), rows)


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _metrics(metrics: Mapping[str, float | tuple[float, float, float]]) -> str:
    return _table(
        ("metric", "value", "interval"),
        [
            (name, number(value[0]), f"{number(value[1])} … {number(value[2])}")
            if isinstance(value, tuple)
            else (name, number(value), "")
            for name, value in metrics.items()
        ],
    )


def _index(index: IndexStated | None) -> str:
    if index is None:
        return ""
    return (
        f'`{index.spec}` of {index.provider} finds the candidates with `runtime="numpy"`: recall@{index.k} '
        f"{number(index.recall)} against exact search, on {index.queries:,} training queries. "
        '`index="exact"` scores every candidate.'
    )


def _settings(manifest: Manifest) -> str:
    model, run = manifest.model, manifest.run
    retrieval = spec(RetrievalSpec, model.retrieval, "retrieval")
    training = spec(TrainingSpec, model.training if run is None else run.settings, "training")
    rows: list[tuple[str, Any]] = [("seed", model.seed), ("dtype", model.dtype), ("optimizer", _brief(model.optimizer))]
    for name, declared in (("retrieval", retrieval), ("training", training)):
        rows += [(f"{name}.{field}", value) for field, value in _changed(declared)]
    return _table(("setting", "value"), [(name, f"`{value}`") for name, value in rows])


def _towers(model: ModelStated) -> str:
    return "\n".join(f"* {side}: `{brief_tower(model, side)}`" for side in SIDES)


def brief_tower(model: ModelStated, side: Side) -> str:
    """A tower in one line, defaults left out. Raises `BundleError` for one that cannot be meant."""
    tower: Mapping[str, Any] = getattr(model, side)
    features = tower.get("features")
    if not isinstance(features, list) or not all(isinstance(feature, Mapping) for feature in features):
        raise BundleError(f"{side}: is no TowerSpec, it has no list of features")
    native = model.native.get(side)
    if native is not None:
        built = f", built by {native.rebuild}" if native.rebuild else ""
        return f"{native}{built}, of {', '.join(str(feature.get('name')) for feature in features)}"
    rest = [f"{name}={_plain(value)}" for name, value in _stated(tower) if name != "features"]
    return ", ".join([*(_brief(feature) for feature in features), *rest])


def _arguments(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)!r}" for name, value in _stated(data))


def _stated(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The fields of a spec that are not as by default; all of a class that recs-core does not bring."""
    cls = TYPES.get(str(data.get("type")))
    defaults = {} if cls is None else {f.name: f.default for f in fields(cls)}
    given = [(name, value) for name, value in data.items() if name != "type"]
    return [(name, value) for name, value in given if defaults.get(name, MISSING) != _plain(value)]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _brief(data: Mapping[str, Any]) -> str:
    """A spec as one would type it, defaults left out; read off its JSON: its class may not be at hand."""
    return f"{data.get('type')}({_arguments(data)})"


def _changed(spec: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(spec, f.name)) for f in fields(spec) if getattr(spec, f.name) != f.default]


def _log(history: HistoryStated) -> str:
    """At most 20 epochs, the last among them; the one whose weights are in the bundle in bold."""
    records = history.epochs
    own = "Weights were moved outside `fit`, by a loop of the user's own." if history.own_loop else ""
    if not records:
        return own
    kept = history.best_epoch or records[-1].epoch
    every = -(-len(records) // 20)
    shown = [r for r in records if r.epoch == kept or (len(records) - r.epoch) % every == 0]
    names = list(dict.fromkeys(name for record in shown for name in record.metrics))
    rows = []
    for r in shown:
        cells = [str(r.epoch), f"{r.loss:.4f}", f"{r.seconds:.1f}"]
        cells += [f"{r.metrics[name]:.4f}" if name in r.metrics else "" for name in names]
        rows.append([f"**{cell}**" if cell and r.epoch == kept else cell for cell in cells])
    ended = f"Ended: {history.stopped}. {own}".rstrip()
    return f"{_table(('epoch', 'loss', 'seconds', *names), rows)}\n\n{ended}"


def _provenance(manifest: Manifest) -> str:
    made = manifest.provenance
    rows = [("created", manifest.created), *made.versions.items(), ("command", f"`{made.command}`")]
    if manifest.licence:
        rows.append(("licence", manifest.licence))
    return _table(("", ""), rows)


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers), *lines]) if lines else ""

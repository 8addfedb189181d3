"""`recs bundle`: what a bundle says of itself, whether it is whole, what another changed, and its vectors elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.bundle import BundleInfo

app = typer.Typer(
    help="Look at a bundle, check that it is whole, or compare two.", no_args_is_help=True, rich_markup_mode=None
)

Bundle = Annotated[Path, typer.Argument(help="The bundle's folder.")]


@app.command()
def info(bundle: Bundle, as_json: AsJson = False) -> None:
    """Say what a bundle holds, from its manifest alone."""
    from recs_core.bundle import info

    found = info(bundle)
    if as_json:
        print_json(_data(found))
        return
    print_table(("", ""), _facts(found))
    print_table(("file", "bytes"), [(name, f"{facts['length']:,}") for name, facts in found.manifest["files"].items()])
    _remarks(found)


@app.command()
def verify(bundle: Bundle, as_json: AsJson = False) -> None:
    """Check every file's digest, every name, shape and number, and the golden queries' answers."""
    from recs_core.loading import verify

    found = verify(bundle)
    if as_json:
        print_json({**_data(found), "verified": True, "golden_queries_asked": not found.needed})
        return
    files = f"{len(found.manifest['files'])} files, {found.size:,} bytes"
    asked = "; ".join(f"its {side} tower is {native}" for side, native in found.needed.items())
    golden = f"golden queries not asked: {asked}" if asked else "golden queries answered as saved"
    typer.echo(f"{bundle}: whole, {files}, {golden}")
    _remarks(found)


@app.command()
def vectors(
    bundle: Bundle,
    to: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    column: Annotated[str, typer.Option(help="What its column of vectors is called.")] = "vector",
    force: Annotated[bool, typer.Option("--force", help="Replace --to if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the candidates' vectors and attributes for a search engine; the file says how to ask it."""
    from dataclasses import asdict

    from recs_core.cli import options
    from recs_core.exporting import export_vectors

    out = options.parquet_out(to, "--to", force)
    facts = export_vectors(bundle, out, column=column, force=force)
    if as_json:
        print_json({"to": str(out), **asdict(facts)})
        return
    typer.echo(f"{out}: {facts.rows:,} vectors of {facts.dim} numbers, metric {facts.metric}")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    after: Annotated[Path, typer.Argument(help="The folder of a later one.")],
    as_json: AsJson = False,
) -> None:
    """Say what changed: ids, rows, settings, metrics, and how far the lists of common queries agree."""
    from recs_core.difference import difference

    found = difference(before, after)
    if as_json:
        print_json(found.to_json())
        return
    print_table(
        ("", "before", "after", "joined", "gone"),
        [
            (name, f"{ids.before:,}", f"{ids.after:,}", _some(ids.joined), _some(ids.gone))
            for name, ids in found.ids.items()
        ],
    )
    changed = {**found.rows, **found.settings}
    if changed:
        print_table(("", "before", "after"), [(name, *map(_cell, pair)) for name, pair in changed.items()])
    if found.metrics:
        print_table(("metric", "before", "after"), [(name, *map(_cell, pair)) for name, pair in found.metrics.items()])
    if found.lists is None:
        typer.echo(f"lists not compared: {found.why}")
        return
    lists = found.lists
    typer.echo(
        f"overlap@{lists.k} {lists.overlap:.3f} over {lists.queries:,} queries that both know; "
        f"{lists.same:.1%} of the lists are the same"
    )


def _some(ids: Any) -> str:
    from recs_core.contract.messages import some

    return f"{len(ids):,}: {some(ids.slice(0, 4).to_pylist(), 3)}" if len(ids) else "0"


def _cell(value: Any) -> str:
    """Of a metric with an interval, its value."""
    if isinstance(value, (list, tuple)) and len(value) == 3 and all(isinstance(each, float) for each in value):
        value = value[0]
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _facts(found: BundleInfo) -> list[tuple[str, Any]]:
    from recs_core.bundle.card import brief_tower

    stated = found.stated
    run, data, backend = stated.run, stated.provenance.data, stated.provenance.versions.get("backend", "?")
    unfinished = f", of {run.until} planned" if run and run.open else ""
    sizes = {"rows": data.rows, "queries": data.queries, "candidates": data.candidates}
    facts = [
        ("format", f"{found.manifest['version']}, written {stated.created}"),
        ("trained", f"{stated.position.epoch} epochs{unfinished} on {backend}"),
        ("data", ", ".join(f"{size:,} {name}" for name, size in sizes.items() if size is not None)),
        ("query", brief_tower(stated.model, "query")),
        ("candidate", brief_tower(stated.model, "candidate")),
        ("optimizer state", "yes" if "state" in stated.contents else "no"),
        ("digest", found.manifest["digest"]),
    ]
    return [fact for fact in facts if fact[1]]


def _data(found: BundleInfo) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "bytes": found.size,
        "leftovers": list(found.leftovers),
        "card_changed": found.card_changed,
        "manifest": dict(found.manifest),
    }


def _remarks(found: BundleInfo) -> None:
    for name in found.leftovers:
        typer.echo(f"{name}: left over from a save that was cut off; ignored, and removed by the next save")
    if found.card_changed:
        typer.echo("README.md is not as it was written; it is for people, and nothing reads it")

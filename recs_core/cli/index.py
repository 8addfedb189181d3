"""`recs index`: an index for a bundle, chosen by measuring and kept inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recs_core.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from recs_core.index.tuning import Measured

app = typer.Typer(help="Choose, build and keep a bundle's index.", no_args_is_help=True, rich_markup_mode=None)

Bundle = Annotated[Path, typer.Argument(help="The bundle's folder.")]
K = Annotated[int, typer.Option("-k", min=1, help="Of how many candidates the recall is.")]
Queries = Annotated[int, typer.Option(min=1, help="How many training queries are asked.")]
Seed = Annotated[int, typer.Option(min=0, help="Which of them are drawn.")]


@app.command()
def tune(
    bundle: Bundle,
    recall: Annotated[float, typer.Option(help="The least share of the exact best that may be found.")] = 0.95,
    index: Annotated[
        list[str] | None, typer.Option(help="An index to try, as in faiss-hnsw:m=32; may be given several times.")
    ] = None,
    k: K = 10,
    queries: Queries = 1000,
    seed: Seed = 0,
    plot: Annotated[Path | None, typer.Option(help="SVG file for recall against queries per second.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure indexes against exact search, and name the quickest that finds enough."""
    from dataclasses import asdict

    from recs_core.contract.errors import ConfigError
    from recs_core.indexing import tune
    from recs_core.storage import whole
    from recs_core.storage.paths import local

    if plot is not None:
        from recs_core.compare.figures import check_extra

        plot = local(plot, "--plot")
        check_extra()
        if plot.suffix.lower() != ".svg":
            raise ConfigError(f"--plot is drawn as SVG, got {plot.name!r}; name it {plot.stem}.svg")
        whole.check_file(plot, "--plot", ConfigError)
    told = (lambda _: None) if as_json else (lambda measured: typer.echo(f"recs: measured {measured.spec}", err=True))
    found = tune(bundle, index or (), recall=recall, k=k, queries=queries, seed=seed, told=told)
    best = found.best
    if plot is not None:
        from recs_core.compare.tradeoff import tradeoff

        drawn = tradeoff(found.tried, recall).alone()
        whole.replace(plot, lambda to: to.write_text(drawn, encoding="utf-8"))
    if as_json:
        print_json({"recall": recall, "best": best.spec, "tried": [asdict(one) for one in found.tried]})
        return
    print_table(_headers(k), [_row(one, "→" if one is best else "") for one in found.tried])
    if best.spec == "exact":
        typer.echo(f"no index is quicker than exact search at recall@{k} ≥ {recall:g}; there is nothing to build")
    else:
        typer.echo(f"next: recs index build {bundle} --index {best.spec}")


@app.command()
def build(
    bundle: Bundle,
    index: Annotated[str, typer.Option(help="The index, as in faiss-hnsw:ef=128; see `recs index tune`.")],
    k: K = 10,
    queries: Queries = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Build an index and keep it in the bundle, which is then searched with it."""
    from dataclasses import asdict

    from recs_core.indexing import build

    measured = build(bundle, index, k=k, queries=queries, seed=seed)
    if as_json:
        print_json({"path": str(bundle), **asdict(measured)})
        return
    print_table(_headers(k), [_row(measured, "")])
    typer.echo(f"{bundle}: holds the index {measured.spec}; recs.load(…, runtime='numpy') and recs serve use it")


def _headers(k: int) -> tuple[str, ...]:
    return ("", "index", f"recall@{k}", "queries/s", "build, s", "bytes")


def _row(one: Measured, mark: str) -> tuple[Any, ...]:
    size = None if one.size is None else f"{one.size:,}"
    return (mark, one.spec, f"{one.recall:.4f}", f"{one.per_second:,.0f}", f"{one.build:.2f}", size)

"""Answers on Ray: a bundle's recommendations for files of queries, on as many processes as the cluster has room for."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recs_core import load
from recs_core.bundle import info
from recs_core.contract import errors
from recs_core.contract.errors import BundleError, ConfigError, DataError, RecsError
from recs_core.contract.messages import one_line
from recs_core.runtime.answering import PART_ROWS, Answering, Question
from recs_core.storage import whole
from recs_core.storage.paths import local
from recs_core.tables import parquet_files
from recs_core.tables.parquet_parts import files_of, schema_of
from recs_core_ray.need import need_ray

if TYPE_CHECKING:
    import pyarrow as pa

    from recs_core.where import Where

_OURS = re.compile(r"^recs_core\.contract\.errors\.(\w+): (.+)$", flags=re.M)


def recommend(
    bundle: str | Path,
    queries: str | Path,
    *,
    to: str | Path,
    k: int = 10,
    exclude: Literal["seen"] | None = None,
    unknown: Literal["oov", "popular", "error"] = "oov",
    column: str | None = None,
    where: Where | str | None = None,
    diversity: float | None = None,
    pool: int | None = None,
    context: Sequence[str] = (),
    at: str | None = None,
    index: str | None = None,
    cpus: int = 1,
) -> Path:
    """Answer files of queries from a bundle on a Ray cluster, as `recs recommend --queries` answers one file; the
    folder of the answers.

    `queries`: a Parquet file, a folder of them or a pattern, as in "queries/*.parquet"; it and `bundle` lie at the same
    path on every machine. `to`: a new folder that all machines share; it appears when all is answered, with Parquet
    files that hold, in the order of their names, a row for each row of the queries. `cpus`: cores of each process that
    answers. All else is as `recs recommend` has it: `k` candidates; `exclude="seen"` what training saw; `unknown`, what
    a query gets that training never saw; `column` of the query ids; `where`, a condition; `diversity` and `pool`;
    `context`, NAME=VALUE of all requests, or "blank", and their time `at`; `index`, by default the bundle's own.

    Raises `ConfigError` for a `to` that is there, `BundleError` for a bundle that is not, `DataError` for queries and
    questions that cannot be answered, and `MissingExtra` without Ray.
    """
    need_ray("recs_core_ray.recommend")
    if exclude not in (None, "seen"):
        raise ConfigError(f"recommend(exclude=…) is 'seen' or None, got {exclude!r}")
    if unknown not in ("oov", "popular", "error"):
        raise ConfigError(f"recommend(unknown=…) is 'oov', 'popular' or 'error', got {unknown!r}")
    bundle, to = local(bundle, "recommend(bundle)").absolute(), local(to, "recommend(to=…)").absolute()
    question = Question(
        k=k,
        exclude_seen=exclude == "seen",
        unknown=unknown,
        column=column,
        where=where,
        diversity=diversity,
        pool=pool,
        context=tuple(context),
        at=at,
    )
    files = files_of(local(queries, "recommend(queries)", DataError).absolute())
    columns = schema_of(files).names
    asked = Answering.of(load(bundle, runtime="numpy", index=index), question, columns, str(queries))
    asked.warn_of_features(columns)
    how = {"bundle": bundle, "digest": _digest(bundle), "index": index, "question": question, "source": str(queries)}
    with _whole(to) as folder:
        _answer([str(file) for file in files], asked.columns, how, folder, cpus)
        if not any(folder.iterdir()):  # of no queries Ray writes no file, and a folder of none cannot be read
            parquet_files.write(folder / "part-000000.parquet", [], asked.schema)
    return to


class Answers:
    """What a process of the cluster holds: the bundle's memory map, and the question. Calls are tables of queries."""

    def __init__(self, columns: Sequence[str], bundle: Path, digest: str, index: str | None, **asked: Any) -> None:
        if _digest(bundle) != digest:
            raise BundleError(f"{bundle}: is another bundle than when the job began; start the job again")
        model = load(bundle, runtime="numpy", index=index, verify=False)
        self._answering = Answering.of(model, columns=columns, **asked)

    def __call__(self, table: pa.Table) -> pa.Table:
        """See `Answering`."""
        return self._answering(table)


def _digest(bundle: Path) -> str:
    return str(info(bundle).manifest["digest"])


def _answer(files: Sequence[str], columns: Sequence[str], how: dict[str, Any], folder: Path, cpus: int) -> None:
    """Have the files answered, into `folder`. Raises the error of ours that ended it."""
    from ray.data import ActorPoolStrategy, read_parquet
    from ray.exceptions import RayError

    queries = read_parquet(files).select_columns(columns)
    queries.context.execution_options.preserve_order = True
    try:
        queries.map_batches(
            Answers,
            fn_constructor_kwargs={**how, "columns": columns},
            batch_size=PART_ROWS,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1),
            num_cpus=cpus,
        ).write_parquet(str(folder))
    except RayError as failed:
        raise _ours(failed) from failed


def _ours(failed: Exception) -> RecsError:
    """The error that a process raised, which Ray hands on as text: it is one line, and the last of ours."""
    found = _OURS.findall(str(failed))
    if not found:
        return DataError(f"recs_core_ray.recommend: Ray ended the job: {one_line(failed)}")
    name, message = found[-1]
    kind: type[RecsError] = getattr(errors, name)
    return kind(message)


@contextmanager
def _whole(to: Path) -> Iterator[Path]:
    """A new folder that becomes `to` at the end of the block; if the block fails nothing is left of it."""
    if to.exists():
        raise ConfigError(f"{to} exists; choose another folder for recommend(to=…)")
    new = to.with_name(f".{to.name}-{uuid.uuid4().hex}")
    with whole.writing(to):
        new.mkdir(parents=True)
    try:
        yield new
        with whole.writing(to):
            os.replace(new, to)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise

"""`python -m recs_core.compare.worker JOB`: one training of one backend, in a process of its own.

Says what it is doing on stdout, a JSON object per line; whatever a framework prints goes to stderr. Leaves
`result.json` and `arrays.npz` in the job's folder. Frameworks and the rest of the core are imported after the first
line is said, so that every import is timed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from recs_core.compare.job import ARRAYS, RESULT, Job
from recs_core.contract.errors import RecsError

if TYPE_CHECKING:
    from recs_core.compare.watch import Watch
    from recs_core.contract.protocols import Backend
    from recs_core.experiment import Parts
    from recs_core.two_tower import TwoTower

CUTS = (1, 5, 10, 20, 50, 100)
FAMILIES = ("recall", "ndcg", "hit_rate", "mrr")
LISTS = 20
"""How long the lists are of which coverage and popularity are told."""
EVALUATIONS = 3
"""The first one compiles; the median of the others is what an evaluation takes."""

Say = Callable[..., None]


def main(path: str) -> int:
    """Do the job; 0 when it is done, 1 when it failed with a reason in result.json."""
    with _messages() as out:

        def say(stage: str, **facts: Any) -> None:
            out.write(json.dumps({"stage": stage, **facts}) + "\n")
            out.flush()

        say("started")
        job = Job.read(path)
        _pin(job.threads)
        try:
            result = {"ok": True, **_work(job, say)}
        except RecsError as error:
            result = {"ok": False, "kind": type(error).__name__, "problem": str(error)}
        Path(job.folder, RESULT).write_text(json.dumps(result), encoding="utf-8")
        return 0 if result["ok"] else 1


@contextlib.contextmanager
def _messages() -> Iterator[TextIO]:
    """The real stdout; from now on everything that others print there goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield out


def _pin(threads: int) -> None:
    """At most so many CPUs, for every framework alike; those that ignore this have read OMP_NUM_THREADS and its kin."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _work(job: Job, say: Say) -> dict[str, Any]:
    say("importing")
    start = time.perf_counter()
    backend = _load(job)
    seconds = {"import": time.perf_counter() - start}
    memory = {"imported": peak_memory()}

    say("reading data")
    start = time.perf_counter()
    from recs_core.experiment import Experiment, build, cut, load_data

    experiment = Experiment.from_json(job.experiment)
    parts = cut(load_data(experiment.data), experiment.data, experiment.seed)
    seconds["data"] = time.perf_counter() - start

    from recs_core.compare.watch import Watch

    model = build(experiment, parts.train, backend=backend)
    watch = Watch(model, say, also=job.stop_after, stop_after=None if job.purpose == "measure" else job.stop_after)
    say("training", steps=0)
    start = time.perf_counter()
    model.fit(parts.train, callbacks=[watch], progress=False)
    seconds["fit"] = time.perf_counter() - start
    finished = model.position.epoch >= model.training.epochs
    if finished and watch.done not in watch.digests:
        watch.look(None)

    result = _trained(model, watch, seconds)
    arrays: dict[str, Any] = {"losses": watch.losses}
    for step, weights in watch.snapshots.items():
        arrays |= {f"weights/{step}/{name}": value for name, value in weights.items()}
    if finished and job.purpose != "repeat":
        say("evaluating")
        _evaluate(model, parts, seconds, arrays)
        _recommend(model, parts, job, arrays)
    if job.purpose == "measure":
        say("saving")
        result |= _describe(model) | {"bundle": _save(model, parts, job, arrays)}
        memory["peak"] = peak_memory()
        result["memory"] = memory
    import numpy as np

    np.savez(Path(job.folder, ARRAYS), **arrays)
    return result


def _load(job: Job) -> Backend:
    """The backend with its framework imported, or the oracle."""
    if job.purpose == "oracle":
        from recs_core.reference.backend import OracleBackend

        return cast("Backend", OracleBackend(dtype="float64"))
    from recs_core.config import parse
    from recs_core.plugin.manager import load_backend

    selection = parse(job.backend, "recs compare")
    backend = load_backend(selection.name, selection.engine, asked_by=selection.source)
    for module in (*backend.info.requires, *((selection.engine,) if selection.engine else ())):
        importlib.import_module(module)
    return backend


def _trained(model: TwoTower, watch: Watch, seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "steps": watch.done,
        "epochs": [{"loss": e.loss, "seconds": e.seconds} for e in model.history.epochs],
        "digests": {str(step): found for step, found in watch.digests.items()},
        "masked_share": model.history.masked_share,
        "seconds": seconds,
    }


def _evaluate(model: TwoTower, parts: Parts, seconds: dict[str, float], arrays: dict[str, Any]) -> None:
    """Metrics of every query, of the model and of popularity. Without a test part: of the training rows themselves."""
    from statistics import median

    from recs_core.evaluation import Measures, answer_popularity, beyond_names

    tests = parts.test if parts.test is not None else parts.train
    exclude = parts.train if parts.test is not None else None
    times = []
    for _ in range(EVALUATIONS):
        model._corpus = None  # vectors of the corpus, which an evaluation after training has to make
        start = time.perf_counter()
        model.rank(tests, exclude=exclude)
        times.append(time.perf_counter() - start)
    seconds["first evaluation"], seconds["evaluation"] = times[0], median(times[1:])
    cuts = [k for k in CUTS if k < len(model.schema.candidates)] or [1]
    lists = max((k for k in cuts if k <= LISTS), default=cuts[0])
    given = {
        "model": model.answer(tests, exclude=exclude, k=lists),
        "popularity": answer_popularity(model.schema, parts.train, tests, exclude=exclude is not None, k=lists),
    }
    for name, answers in given.items():
        found = Measures(cuts).of(answers)
        chosen = {m: v for m, v in found.values.items() if m.split("@")[0] in FAMILIES}
        arrays |= {f"metrics/{name}/{m}": v for m, v in chosen.items()}
        arrays |= {f"metrics/{name}-targets": found.num_targets, f"metrics/{name}-queries": found.queries}
        arrays |= {f"beyond/{name}/{m}": value for m, value in found.mean().items() if m in beyond_names((lists,))}


def _recommend(model: TwoTower, parts: Parts, job: Job, arrays: dict[str, Any]) -> None:
    """Retrieval vectors of the asked queries and of the corpus, and their lists as corpus positions."""
    arrays["vectors/query"] = model.encode_query(job.queries, context=model.schema.blank_request)
    arrays["vectors/candidate"] = model.encode_candidate()
    arrays["lists/codes"], arrays["lists/scores"] = _lists(model, parts, job)


def _lists(model: Any, parts: Parts, job: Job) -> tuple[Any, Any]:
    import numpy as np

    from recs_core.data.ids import codes_of

    exclude = parts.train if parts.test is not None else None
    found = model.recommend(job.queries, k=job.k, exclude=exclude, context=model.schema.blank_request)
    flat = found.ids.ravel()
    present = np.isfinite(found.scores.ravel())
    codes = np.full(flat.shape, -1, np.int32)
    codes[present] = codes_of(flat[present], "lists", model.schema.candidates)
    return codes.reshape(found.ids.shape), found.scores


def _save(model: TwoTower, parts: Parts, job: Job, arrays: dict[str, Any]) -> dict[str, Any]:
    """Sizes of the bundle, with and without what training on needs, and what NumPy alone recommends from it."""
    import numpy as np

    from recs_core.bundle import info
    from recs_core.loading import load

    folder = Path(job.folder)
    whole = info(model.save(folder / "bundle-whole")).size
    path = model.save(folder / "bundle", include_state=False)
    codes, scores = _lists(load(path, runtime="numpy"), parts, job)
    return {
        "bytes": info(path).size,
        "bytes_with_optimizer": whole,
        "numpy_same_lists": int((codes == arrays["lists/codes"]).all(1).sum()),
        "numpy_score_difference": float(np.abs(_finite(scores) - _finite(arrays["lists/scores"])).max()),
    }


def _finite(scores: Any) -> Any:
    import numpy as np

    return np.where(np.isfinite(scores), scores, 0)


def _describe(model: TwoTower) -> dict[str, Any]:
    """What the backend is and what it built."""
    trainer = model._trainer
    return {
        "name": model.backend_name,
        "summary": model.backend.info.summary,
        "static_shapes": model.backend.info.static_shapes,
        "versions": _versions(model),
        "python": ".".join(map(str, sys.version_info[:3])),
        "trainer": f"{type(trainer).__module__}.{type(trainer).__qualname__}",
        "native": {
            "query": printout(model.query_tower.native),
            "candidate": printout(model.candidate_tower.native),
        },
        "weights": {name: list(value.shape) for name, value in model.weights().items()},
        "parameters": sum(int(value.size) for value in model.weights().values()),
    }


def printout(native: Any) -> str:
    """A module as its framework prints it: its summary where it has one, else its repr."""
    if not callable(getattr(native, "summary", None)):
        return repr(native)
    lines: list[str] = []
    with contextlib.suppress(Exception):  # a subclassed model may be unable to; then its repr has to do
        native.summary(print_fn=lambda line, **_: lines.append(str(line)))
    return "\n".join(lines).rstrip() or repr(native)


def _versions(model: TwoTower) -> dict[str, str]:
    """Installed versions of what the backend requires, its engine and its own distribution included."""
    from importlib.metadata import packages_distributions, version

    provided = packages_distributions()
    engine = getattr(model.backend, "engine", None)
    package = type(model.model).__module__.split(".")[0]
    modules = [package, *model.backend.info.requires, *([engine] if engine else [])]
    names = dict.fromkeys(provided[module][0] for module in modules if module in provided)
    return {name: version(name) for name in names}


def peak_memory() -> int:
    """The most memory this process has held, in bytes; 0 where the system does not say.

    On Linux from /proc: the kernel's ru_maxrss also remembers the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if line is not None:
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

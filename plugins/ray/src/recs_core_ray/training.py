"""A training on Ray: its workers are started on the cluster, and anew, from the last checkpoint, when some are lost."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from recs_core.config import check_workers, select
from recs_core.contract.errors import ConfigError
from recs_core.experiment import Experiment, absolute
from recs_core.plugin.manager import backend_info
from recs_core.storage.paths import local
from recs_core_ray.need import need_ray
from recs_core_ray.worker import Run, train


def fit(
    config: str | Path | Experiment | None = None,
    *,
    out: str | Path,
    workers: int | tuple[int, int] = 2,
    cpus: int = 1,
    max_failures: int = 0,
    timeout: float | None = None,
    resume: bool = False,
) -> Path:
    """Train an experiment on workers of a Ray cluster, as `recs train --config` does on one machine; its bundle.

    `config`: a `run.json`, or an `Experiment`; files that it names lie at the same path on every machine, relative ones
    where `fit` is called. `out`: a new folder that all machines share, for the bundle, saved after every epoch, and
    `run.json`. `workers`: how many, or the least and the most: as many as the cluster has room for, at the start and
    whenever that changes. `cpus`: cores of each. `max_failures`: how many times workers are started anew, from the last
    checkpoint, when one is lost; −1 for any number. `timeout`: seconds that a worker waits for one that is silent, 300
    by default. `resume`: finish the run in `out` that was cut off, instead of `config`.

    Uses the cluster of `ray.init`, or starts Ray on this machine. Whatever raises an error of this library is not
    started anew.

    Raises `ConfigError` for arguments that cannot be meant and a folder that workers do not share, `MissingExtra`
    without Ray, `UnsupportedFeature` where the backend trains on one worker alone, `WorkerLost` when more than
    `max_failures` were lost, and as `recs_core.experiment.execute`.
    """
    need_ray("recs_core_ray.fit")
    _check(workers, cpus, max_failures, timeout)
    out = local(out, "fit(out=…)").absolute()
    experiment = _experiment(config, out, resume)
    mark = f".ray-{uuid.uuid4().hex}"
    run: Run = {
        "experiment": experiment.to_json(),
        "out": str(out),
        "mark": mark,
        "timeout": timeout,
        "command": sys.argv,
    }
    with _marked(out, mark):
        _run(run, workers, cpus, max_failures)
    return out / "bundle"


def _check(workers: int | tuple[int, int], cpus: int, max_failures: int, timeout: float | None) -> None:
    """Raise `ConfigError` for a number that cannot be meant."""
    given = workers if isinstance(workers, tuple) else (workers, workers)
    if len(given) != 2 or not all(_is_whole(number) for number in given) or not 1 <= given[0] <= given[1]:
        raise ConfigError(
            f"fit(workers=…) is a number from 1, or the least and the most, as in (2, 8); got {workers!r}"
        )
    if not _is_whole(cpus) or cpus < 1:
        raise ConfigError(f"fit(cpus=…) is a number of cores from 1, got {cpus!r}")
    if not _is_whole(max_failures) or max_failures < -1:
        raise ConfigError(f"fit(max_failures=…) is a number from 0, or -1 for any number, got {max_failures!r}")
    if timeout is not None and not 0 < timeout < math.inf:
        raise ConfigError(f"fit(timeout=…) is a finite number of seconds above 0, got {timeout!r}")


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _experiment(config: str | Path | Experiment | None, out: Path, resume: bool) -> Experiment:
    """What is trained, with the backend and the files spelled out for processes elsewhere."""
    if resume:
        if config is not None:
            raise ConfigError(f"fit(resume=True) takes everything from {out / 'run.json'}; leave config out")
        config = out / "run.json"
    elif config is None:
        raise ConfigError("fit: name the run.json to train, or resume=True to finish the run in out")
    elif out.exists():
        raise ConfigError(f"{out} exists; choose another out, or resume=True to finish the run in it")
    experiment = config if isinstance(config, Experiment) else Experiment.read(config)
    selection = select(experiment.backend)
    check_workers(backend_info(selection.name, selection.engine, asked_by=selection.source))
    return replace(experiment, backend=str(selection), data=absolute(experiment.data))


@contextmanager
def _marked(out: Path, mark: str) -> Iterator[None]:
    """Within the block a folder `mark` lies in `out`: Ray's own, by which workers know that they share it. Of an `out`
    in which nothing was written nothing is left."""
    try:
        (out / mark).mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written, {error.strerror or error}") from error
    try:
        yield
    finally:
        shutil.rmtree(out / mark, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()


def _run(run: Run, workers: int | tuple[int, int], cpus: int, max_failures: int) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from recs_core_ray.ending import AtOnce, in_our_words

    trainer = DataParallelTrainer(
        train,
        train_loop_config=dict(run),
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name=run["mark"],
            storage_path=run["out"],
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[AtOnce()],
        ),
    )
    try:
        with _ctrl_c_given_back():
            trainer.fit()
    except TrainingFailedError as failed:
        raise in_our_words(failed, Path(run["out"]), max_failures) from failed


@contextmanager
def _ctrl_c_given_back() -> Iterator[None]:
    """Ray takes Ctrl-C for the training, and would keep it for the rest of the process."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)

"""One worker of a training on Ray: it learns who it is, and runs the experiment as `recs train` does."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, TypedDict

from recs_core.contract.errors import ConfigError
from recs_core.contract.workers import TIMEOUT, Workers, is_first
from recs_core.distributed.launch import free_port
from recs_core.experiment import Experiment, execute
from recs_core.storage.manifest import is_bundle


class Run(TypedDict):
    """What every worker is told, as JSON keeps it: the experiment, its folder `out`, and in it the name of a folder
    that is there where `out` is the same on all machines. `timeout`: seconds to wait for another worker. `command`:
    what was typed, for the bundle's card."""

    experiment: dict[str, Any]
    out: str
    mark: str
    timeout: float | None
    command: list[str]


class Start(TypedDict):
    """What worker 0 tells the others: where they meet, and whether they go on from a checkpoint."""

    address: str
    port: int
    resume: bool


def train(run: Run) -> None:
    """Train as one of several workers, from the checkpoint in `out` where there is one. Raises `ConfigError` where this
    machine does not have `out`, and as `execute`."""
    from ray.train import get_context

    context = get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    out = Path(run["out"])
    check_shared(out, run["mark"], rank)
    start = _agreed(out, rank)
    workers = None
    if size > 1:
        workers = Workers(
            rank,
            size,
            address=start["address"],
            port=start["port"],
            hosts=rank == 0,
            local=context.get_local_rank(),
            timeout=TIMEOUT if run["timeout"] is None else run["timeout"],
        )
    sys.argv = run["command"]
    experiment = Experiment.from_json(run["experiment"])
    outcome = execute(experiment, workers=workers, progress=False, out=out, resume=start["resume"])
    if is_first(workers):
        outcome.write(out)


def check_shared(out: Path, mark: str, rank: int) -> None:
    """Raise `ConfigError` where `out` is not here, or another folder than the one that `fit` has marked."""
    if not (out / mark).is_dir():
        raise ConfigError(
            f"worker {rank}, on {socket.gethostname()}, does not see the folder {out} of fit(out=…); name one that all "
            "machines of the cluster share"
        )


def _agreed(out: Path, rank: int) -> Start:
    """Worker 0's word, so that workers who look at a shared folder at other moments do the same."""
    from ray.train.collective import broadcast_from_rank_zero
    from ray.util import get_node_ip_address

    mine: Start | None = None
    if rank == 0:
        mine = {"address": get_node_ip_address(), "port": free_port(), "resume": is_bundle(out / "bundle")}
    told: Start = broadcast_from_rank_zero(mine)
    return told

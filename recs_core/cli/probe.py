"""`python -m recs_core.cli.probe NAME ANSWER`: one training step of one backend, compared with the formula.

Run by `recs doctor` in a process of its own, since a sick framework may take its process with it. ANSWER becomes a
JSON file.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, cast

import numpy as np

from recs_core import config
from recs_core.config import Selection, parse
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import MissingExtra, RecsError
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import Backend, WithDevices
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.plugin.manager import load_backend

TOLERANCE = 1e-5


def probe(name: str) -> dict[str, Any]:
    """Health, finding and versions of the backend called `name`, as in "keras[jax]"."""
    try:
        selection = parse(name, "recs doctor")
        backend = load_backend(selection.name, selection.engine, asked_by=selection.source)
        finding, devices = try_step(backend), _devices(backend)
        for device in devices:
            if not finding and (found := try_step(config.backend(backend, device=device))):
                finding = f"on {device}: {found}"
        return {
            "health": "broken" if finding else "ok",
            "finding": finding or "one step as by the formula",
            "versions": _versions(backend, selection),
            "devices": devices,
        }
    except MissingExtra as error:
        return {"health": "absent" if selection.engine else "broken", "finding": str(error)}
    except RecsError as error:
        return {"health": "broken", "finding": str(error)}
    except Exception as error:
        return {"health": "broken", "finding": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _devices(backend: Backend) -> dict[str, str]:
    """Each device to choose from, and what it is."""
    has = backend.info.capabilities["device"] is True
    return dict(cast("WithDevices", backend).devices()) if has else {}


def try_step(backend: Backend) -> str | None:
    """What is wrong with one in-batch step over three rows per side; None if nothing is."""
    query = TowerPlan.of("query", TowerSpec((Categorical("user", dim=4),)))
    candidate = TowerPlan.of("candidate", TowerSpec((Categorical("item", dim=4),)))
    task = RetrievalSpec("dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
    rows, random = np.arange(3, dtype=np.int32), np.random.default_rng(0)
    weights = {name: random.standard_normal((3, 4)).astype(np.float32) for name in ("table/user", "table/item")}
    batch = Batch(
        rows={name: rows for name in weights},
        query=Features(3, {"user": rows}),
        candidate=Features(3, {"item": rows}),
        task={"target_query": rows, "target_candidate": rows, "sample_weight": np.ones(3, np.float32)},
    )
    model = backend.model(query, candidate, task, weights)
    loss = float(backend.trainer(model, UpdatePlan(Adagrad(0.1))).step(batch, 0.1))

    q, c = (table.astype(np.float64) for table in weights.values())
    scores = np.exp(q @ c.T)
    p = scores / scores.sum(axis=1, keepdims=True)
    expected_loss = -np.log(np.diag(p)).mean()
    gradient = (p - np.eye(3)) @ c / 3
    expected = q - 0.1 * gradient / (np.sqrt(0.1 + gradient**2) + 1e-7)
    if not abs(loss - expected_loss) <= TOLERANCE:
        return f"the loss of a step is {loss}, by the formula {expected_loss}"
    off = float(np.abs(model.query.embed(Features(3, {"user": rows})) - expected).max())
    return None if off <= TOLERANCE else f"after a step, embeddings are {off} away from the formula's"


def _versions(backend: Backend, selection: Selection) -> str:
    """Installed versions of what the backend requires, its engine included."""
    modules = [*backend.info.requires, *([selection.engine] if selection.engine else [])]
    provided = packages_distributions()
    return ", ".join(f"{d} {version(d)}" for d in dict.fromkeys(provided[m][0] for m in modules if m in provided))


if __name__ == "__main__":
    name, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(probe(name)), encoding="utf-8")

"""What the tests beside it run, each backend in its own process: `program.py NAME BACKEND` prints one line of JSON."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import recs_core as recs

BOUND = 60
"""Seconds after which a child counts as hanging."""


def data(rows: int = 1500, ids: int = 100) -> recs.Interactions:
    random = np.random.default_rng(0)
    table = {name: [f"{name}{i}" for i in random.integers(0, ids, rows)] for name in ("user", "item")}
    return recs.Interactions.from_table(table, query="user", candidate="item")


def model(backend: str, dim: int = 16, batch_size: int = 256) -> recs.TwoTower:
    query, candidate = (recs.TowerSpec([recs.Categorical(name, dim=dim)]) for name in ("user", "item"))
    training = recs.TrainingSpec(epochs=1, batch_size=batch_size)
    return recs.TwoTower(query=query, candidate=candidate, backend=backend, training=training)


def memory(backend: str) -> list[float]:
    """Resident megabytes after each of twenty models that are gone."""
    train, out = data(20_000, 5_000), []
    for _ in range(20):
        one = model(backend, dim=64, batch_size=2048)
        one.fit(train)
        one.recommend(["user1"])
        del one
        gc.collect()
        with open("/proc/self/statm") as file:
            out.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return out


def forks(backend: str) -> dict[str, str]:
    """What comes of each deed in a forked child: "ok", "hangs", or the error."""
    train = data()
    model(backend).backend  # noqa: B018 (loads the framework, and starts nothing)
    out = {"fit in a child of a process that only imported it": in_child(lambda: model(backend).fit(train))}
    fitted = model(backend)
    fitted.fit(train)
    out["recommend"] = in_child(lambda: fitted.recommend(["user1"]))
    out["fit on"] = in_child(lambda: fitted.fit(train))
    out["fit anew"] = in_child(lambda: model(backend).fit(train))
    out["weights"] = in_child(fitted.weights)
    fitted.fit(train)  # the parent goes on
    return out


def in_child(deed: Callable[[], Any]) -> str:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def run() -> None:
        try:
            deed()
        except Exception as error:
            answers.put(f"{type(error).__name__}: {error}")
        else:
            answers.put("ok")

    child = context.Process(target=run)
    child.start()
    child.join(BOUND)
    if child.is_alive():
        child.kill()
        return "hangs"
    return "died" if answers.empty() else str(answers.get())


def threads(backend: str) -> list[str]:
    """The errors of two threads that ask while a third trains."""
    train, fitted = data(), model(backend)
    fitted.fit(train)
    done, errors = threading.Event(), []

    def ask() -> None:
        try:
            while not done.is_set():
                vectors = fitted.encode_query(["user1", "user2"])
                assert np.isfinite(vectors).all()
                fitted.recommend(["user3"])
                fitted.evaluate(train)
                fitted.weights()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    fitted.fit(train, epochs=10)
    done.set()
    for asker in askers:
        asker.join()
    return errors


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # JAX warns of every fork
    print(json.dumps({"memory": memory, "forks": forks, "threads": threads}[sys.argv[1]](sys.argv[2])))

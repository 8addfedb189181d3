"""The data sets of the quality benchmark, each with the cut, the metrics and the goal that its published tables use.

`online-retail` is embedded in recs_core. The others are read from a folder of the user's (`--data`), whose licences do
not let anyone pass them on:

gowalla         train.txt.gz, valid.txt.gz (a part of train), test.txt.gz: LightGCN's split (RecZoo calls it Gowalla_m1)
ml-1m           lfcn/train.txt.gz, lfcn/test.txt.gz: the split of LFCN, UltraGCN and SimpleX
movielens-100k  GroupLens's u.data, u.item, u.user, or RecBole's ml-100k.inter, .item, .user; the cut of the TFRS
                tutorials, drawn with NumPy
yelp2018        train.txt.gz, test.txt.gz: the split of NGCF and LightGCN
ml-1m-sequences sas/sequences.txt.gz: SASRec's ml-1m.txt, of which line k has the items of user k in order of time; the
                last item of each user is the test
beauty          sequences.txt.gz of S3-Rec (Amazon Beauty, 5-core): the last item of each user is the test

A line of a .txt.gz is `user item item …`, separated by spaces.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recs_core import datasets
from recs_core.data.interactions import Interactions
from recs_core.experiment import PROTOCOLS, cut, load_data


@dataclass(frozen=True)
class QualitySet:
    """One set under one protocol.

    `validation` is for choosing settings; it is cut from `train`, and `fitted` is what is left of it. `k` are the cuts
    of `metrics`, the columns of its table; `goals` what those metrics should reach. `show_raw`: the published tables
    leave training items in the ranking, so the first metric is measured that way too.
    """

    name: str
    recipe: str
    train: Interactions
    test: Interactions
    fitted: Interactions
    validation: Interactions
    k: tuple[int, ...] = (20,)
    metrics: tuple[str, ...] = ("recall@20", "ndcg@20")
    goals: tuple[float, ...] = ()
    show_raw: bool = False


def load(name: str, folder: Path | None) -> QualitySet:
    """The set of that name. Raises `FileNotFoundError` where its files are not in `folder`."""
    if not name.startswith("online-retail") and folder is None:
        raise FileNotFoundError(f"{name} is read from a folder of yours: --data DIR (see benchmarks/quality/sets.py)")
    return SETS[name](folder or Path())


def _online_retail(_: Path) -> QualitySet:
    """Time split at 2011-11-10; validation is the last 8 % of the training rows by time."""
    protocol = PROTOCOLS["online-retail"]
    parts = cut(load_data(protocol), protocol, seed=0)
    assert parts.test is not None
    fitted, validation = parts.train.split(by="time", test=0.08, known_only=True)
    return QualitySet("online-retail", "history", parts.train, parts.test, fitted, validation, goals=(0.127, 0.134))


def _ml_1m(folder: Path) -> QualitySet:
    """Users 6,022 × movies 3,043; validation is a random tenth of the training rows."""
    train, test = (_lines(folder / "lfcn" / f"{part}.txt.gz") for part in ("train", "test"))
    fitted, validation = train.split(by="random", test=0.1, known_only=True)
    return QualitySet("ml-1m", "ids", train, test, fitted, validation, goals=(0.279, 0.264))


def _gowalla(folder: Path) -> QualitySet:
    """29,858 × 40,981; validation is the part of train that was published for it."""
    train, valid, test = (_pairs(folder / f"{part}.txt.gz") for part in ("train", "valid", "test"))
    held_out = np.isin(_keys(train), _keys(valid))
    whole = _interactions(*train)
    return QualitySet(
        "gowalla",
        "ids",
        whole,
        _interactions(*test),
        whole.take(~held_out),
        whole.take(held_out),
        goals=(0.187, 0.157),
    )


def _yelp2018(folder: Path) -> QualitySet:
    """31,668 × 38,048; validation is a random tenth of the training rows."""
    train, test = (_lines(folder / f"{part}.txt.gz") for part in ("train", "test"))
    fitted, validation = train.split(by="random", test=0.1, known_only=True)
    return QualitySet("yelp2018", "ids", train, test, fitted, validation, goals=(0.0686, 0.0567))


def _movielens_100k(folder: Path) -> QualitySet:
    """80,000 rows to train and 20,000 to test, all ratings as positives, titles as candidates."""
    if not any((folder / name).is_file() for name in ("u.data", "ml-100k.inter")):
        raise FileNotFoundError(f"{folder}: neither u.data nor ml-100k.inter is in it")
    data = datasets.load("movielens-100k", path=folder)
    movies = data.candidates.to_pandas()
    movies["title"] = movies["title"] + " (" + movies["year"].astype("string").fillna("?") + ")"
    rows = data.to_table().to_pandas()
    rows["title"] = movies["title"].to_numpy()[data.candidate_codes]
    order = np.random.default_rng(42).permutation(len(rows))
    whole = Interactions.from_table(
        rows[["user_id", "title", "timestamp"]],
        query="user_id",
        candidate="title",
        timestamp="timestamp",
        queries=data.queries,
        candidates=movies.drop_duplicates("title")[["title", "year", "genres"]],
    )
    train, test = whole.take(np.sort(order[:80_000])), whole.take(np.sort(order[80_000:]))
    fitted, validation = train.split(by="random", test=0.1)
    accuracy = "top_k_categorical_accuracy@100"
    return QualitySet(
        "movielens-100k",
        "ids",
        train,
        test,
        fitted,
        validation,
        k=(100,),
        metrics=(accuracy,),
        goals=(0.5,),
        show_raw=True,
    )


def _beauty(folder: Path) -> QualitySet:
    """The last item of each user is the test, the one before it the validation; places in the line serve as times."""
    return _last_items("beauty", "history", *_pairs(folder / "sequences.txt.gz"), goals=(0.065, 0.033))


def _beauty_sequences(folder: Path) -> QualitySet:
    """The same; goals: SASRec with shared negatives and eSASRec, as published with 256 dims."""
    return _last_items("beauty-sequences", "sequence", *_pairs(folder / "sequences.txt.gz"), goals=(0.0921, 0.0523))


def _online_retail_sequences(folder: Path) -> QualitySet:
    """The same split as `online-retail`; goals: what `history` reaches there."""
    return replace(_online_retail(folder), name="online-retail-sequences", recipe="sequence", goals=(0.1339, 0.1413))


def _ml_1m_sequences(folder: Path) -> QualitySet:
    """The last item of each user is the test, the one before it the validation; goals: a full softmax, as published."""
    items = _numbers(folder / "sas" / "sequences.txt.gz")
    users = np.repeat(np.arange(1, len(items) + 1), [len(line) for line in items])
    return _last_items("ml-1m-sequences", "sequence", users, np.concatenate(items), goals=(0.3152, 0.1821))


def _last_items(name: str, recipe: str, users: np.ndarray, items: np.ndarray, goals: tuple[float, ...]) -> QualitySet:
    """Of users one after another, each one's items in order of time: their places serve as times."""
    _, first, counts = np.unique(users, return_index=True, return_counts=True)
    place = np.arange(len(users)) - np.repeat(first, counts)
    table = {"user": users, "item": items, "place": place.astype(np.float64)}
    whole = Interactions.from_table(table, query="user", candidate="item", timestamp="place")
    train, test = whole.split(by="last")
    fitted, validation = train.split(by="last")
    metrics = ("hit_rate@10", "ndcg@10")
    return QualitySet(name, recipe, train, test, fitted, validation, k=(10,), metrics=metrics, goals=goals)


SETS: dict[str, Callable[[Path], QualitySet]] = {
    "online-retail": _online_retail,
    "ml-1m": _ml_1m,
    "gowalla": _gowalla,
    "yelp2018": _yelp2018,
    "movielens-100k": _movielens_100k,
    "beauty": _beauty,
    "ml-1m-sequences": _ml_1m_sequences,
    "beauty-sequences": _beauty_sequences,
    "online-retail-sequences": _online_retail_sequences,
}


def _lines(path: Path) -> Interactions:
    return _interactions(*_pairs(path))


def _interactions(users: np.ndarray, items: np.ndarray) -> Interactions:
    return Interactions.from_table({"user": users, "item": items}, query="user", candidate="item")


def _pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Users and items, row by row."""
    lines = _numbers(path)
    items = [line[1:] for line in lines]
    users = np.repeat([line[0] for line in lines], [len(line) for line in items])
    return users, np.concatenate(items)


def _numbers(path: Path) -> list[np.ndarray]:
    """The numbers of each line."""
    with gzip.open(path, "rt") as file:
        return [np.fromstring(line, np.int64, sep=" ") for line in file]


def _keys(pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return pairs[0] << 32 | pairs[1]

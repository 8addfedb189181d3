"""What the suite does not see: where the vectors go, what is sent again, and what Qdrant says otherwise."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from recs_core_qdrant import QdrantIndex

import recs_core as recs
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import ConfigError, IndexUnreachable
from recs_core.index import CandidateIndex
from recs_core.reference.backend import OracleBackend
from recs_core.reference.topk import top_k

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(3_000, 8)).astype(np.float32)  # more than are always scored here
QUERIES = RANDOM.normal(size=(7, 8)).astype(np.float32)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def same(found: Any, due: Any) -> None:
    np.testing.assert_array_equal(found.ids, due.ids)
    np.testing.assert_allclose(found.scores, due.scores.astype(np.float32), rtol=1e-6)


def test_qdrant_finds_and_the_core_filters(client: QdrantClient) -> None:
    index = QdrantIndex(client=client)
    index.build(VECTORS)
    assert client.count(str(index.collection)).count == 3_000
    best = top_k(QUERIES, VECTORS, 8).ids
    hidden = Ragged.of(best[:, ::2].tolist())
    allowed = np.arange(0, 3_000, 2)
    for filters in ({}, {"exclude": hidden}, {"allow": allowed}, {"exclude": hidden, "allow": allowed}):
        same(index.search(QUERIES, 5, **filters), top_k(QUERIES, VECTORS, 5, **filters))


def test_what_qdrant_holds_decides_nothing_but_what_is_found(client: QdrantClient) -> None:
    """Points that another process changed: scores are those of the vectors, and nothing leaks."""
    index = QdrantIndex(client=client)
    index.build(VECTORS)
    changed = models.Batch(ids=list(range(100)), vectors=(50 * np.tile(QUERIES[:1], (100, 1))).tolist())
    client.upsert(str(index.collection), changed)
    strange = [99_999, 2**63, "0fb2e64a-52a4-4f3b-8a3c-1f1f2c0a9f63"]
    client.upsert(
        str(index.collection), models.Batch(ids=strange, vectors=(90 * np.tile(QUERIES[:1], (3, 1))).tolist())
    )
    found = index.search(QUERIES[:1], 5, exclude=Ragged.of([list(range(50))]))
    assert (found.ids >= 50).all() and (found.ids < 3_000).all()
    np.testing.assert_allclose(found.scores[0], VECTORS[found.ids[0]] @ QUERIES[0], rtol=1e-5)
    assert (np.diff(found.scores[0]) <= 0).all()


def test_equal_scores_come_in_the_order_of_the_corpus(client: QdrantClient) -> None:
    vectors = np.repeat(VECTORS[:1_000], 3, axis=0)
    index = QdrantIndex(client=client)
    index.build(vectors)
    same(index.search(QUERIES, 9), top_k(QUERIES, vectors, 9))


def watched(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the points that are sent from now on."""
    sent: list[int] = []
    upsert = client.upsert

    def counting(name: str, points: models.Batch, **how: Any) -> Any:
        sent.extend(points.ids)
        return upsert(name, points, **how)

    monkeypatch.setattr(client, "upsert", counting)
    return sent


def test_another_worker_sends_nothing_and_a_cut_off_upload_is_finished(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, worker = QdrantIndex(client=client), QdrantIndex(client=client)
    index.build(VECTORS)
    name, sent = str(index.collection), watched(client, monkeypatch)
    worker.build(VECTORS.copy())
    assert (worker.collection, sent) == (name, [])
    same(worker.search(QUERIES, 5), top_k(QUERIES, VECTORS, 5))
    client.delete(name, models.PointIdsList(points=[7, 8]))
    worker.build(VECTORS)
    assert len(sent) == 3_000 and client.count(name).count == 3_000
    worker.upsert(-VECTORS, np.arange(3_000))  # the first goes on with its own
    assert worker.collection != name
    for each, vectors in ((index, VECTORS), (worker, -VECTORS)):
        same(each.search(QUERIES, 5), top_k(QUERIES, vectors, 5))
    other = QdrantIndex(m=32, client=client)
    other.build(VECTORS)
    assert other.collection not in (name, worker.collection)


def test_a_folder_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_QDRANT_URL", str(tmp_path / "qdrant"))
    index = QdrantIndex()
    index.build(VECTORS[:40])
    index.close()
    again = QdrantIndex()
    sent = watched(again._client, monkeypatch)
    again.build(VECTORS[:40])
    assert (again.collection, sent) == (index.collection, [])
    again.close()


def test_in_a_memory_of_its_own_only_what_changed_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_QDRANT_URL", ":memory:")
    index = QdrantIndex()
    index.build(VECTORS)
    sent = watched(index._client, monkeypatch)
    now = np.concatenate([VECTORS, QUERIES])
    now[3] = -VECTORS[3]
    index.upsert(now, np.array([3, *range(3_000, 3_007)]))
    assert sorted(sent) == [3, *range(3_000, 3_007)]
    same(index.search(QUERIES, 5), top_k(QUERIES, now, 5))
    index.build(VECTORS)  # named as the first time, and not what is left of the second
    same(index.search(QUERIES, 5), top_k(QUERIES, VECTORS, 5))
    assert len(index._client.get_collections().collections) == 1


def test_behind_ids(client: QdrantClient) -> None:
    corpus = CandidateIndex([f"i{n}" for n in range(3_000)], VECTORS, QdrantIndex(client=client))
    first = corpus.search(QUERIES, 3).ids
    corpus.delete(first[:, 0].tolist())
    np.testing.assert_array_equal(corpus.search(QUERIES[:1], 1).ids, first[:1, 1:2])


def test_by_name_it_finds_what_a_bundle_recommends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the entry point; the corpus is larger than what is scored whole."""
    monkeypatch.setenv("RECS_QDRANT_URL", ":memory:")
    random = np.random.default_rng(1)
    users, items = random.integers(0, 50, 4_000), np.concatenate([np.arange(1_500), random.integers(0, 1_500, 2_500)])
    data = recs.Interactions.from_table({"user": users, "item": items}, query="user", candidate="item")
    model = recs.TwoTower(
        query=recs.TowerSpec([recs.Categorical("user", dim=8)]),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=8)]),
        training=recs.TrainingSpec(epochs=1, batch_size=512),
        backend=OracleBackend(),
    )
    model.fit(data, progress=False)
    model.save(tmp_path / "bundle")
    asked: dict[str, Any] = {"queries": list(range(10)), "k": 5, "exclude": "seen"}
    due = recs.load(tmp_path / "bundle", runtime="numpy").recommend(**asked)
    found = recs.load(tmp_path / "bundle", runtime="numpy", index="qdrant").recommend(**asked)
    same(found, due)


# What cannot be


def test_without_a_place_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECS_QDRANT_URL", raising=False)
    with pytest.raises(ConfigError, match="set RECS_QDRANT_URL to its URL, to a folder, or to :memory:"):
        QdrantIndex()


def test_an_address_without_its_scheme_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_QDRANT_URL", "localhost:6333")
    with pytest.raises(ConfigError, match="write http://localhost:6333, or ./localhost:6333 for a folder"):
        QdrantIndex()
    assert not Path("localhost:6333").exists()


@pytest.mark.parametrize("options", [{"hnsw_ef": 0}, {"m": 1}, {"ef_construct": 2.5}])
def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        QdrantIndex(**options)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client's, which leaves its lock open
def test_two_processes_cannot_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_QDRANT_URL", str(tmp_path))
    index = QdrantIndex()
    with pytest.raises(ConfigError, match="already accessed by another instance"):
        QdrantIndex()
    index.close()


class Broken(http.server.BaseHTTPRequestHandler):
    """A server that answers everything with 500."""

    def do_GET(self) -> None:
        self.send_error(500, "out of order")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_QDRANT_URL", "http://127.0.0.1:9")
    index = QdrantIndex()
    with pytest.raises(IndexUnreachable, match=r"'qdrant' at http://127.0.0.1:9: .*RECS_QDRANT_URL names it"):
        index.build(VECTORS)
    index.close()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("RECS_QDRANT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        index = QdrantIndex()
        with pytest.raises(IndexUnreachable, match="out of order"):
            index.build(VECTORS)
        index.close()
        server.shutdown()

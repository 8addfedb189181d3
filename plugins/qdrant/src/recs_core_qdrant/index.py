"""The index `qdrant`: a collection of points whose ids are positions, and whose distance is the inner product."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from hashlib import sha256
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from recs_core.contract.errors import ConfigError, IndexUnreachable, UnsupportedFeature
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.messages import one_line
from recs_core.index.plan import SearchPlan
from recs_core.index.rescored import Found, RescoredIndex
from recs_core.plugin.specs import whole
from recs_core_qdrant.plugin import INFO

WHERE, KEY = "RECS_QDRANT_URL", "RECS_QDRANT_API_KEY"
MEMORY = ":memory:"
ROWS, NUMBERS = 1_000, 1 << 18
"""Points sent at a time, and the most numbers in them: some 5 MB of JSON, where a server takes 32."""
ASKED = 100
"""Queries asked at a time."""
SECONDS = 30
"""What one request may take."""


@dataclass
class QdrantIndex(RescoredIndex):
    """Qdrant finds positions; filters, scores, ties and short lists are settled here, from the vectors themselves.

    `hnsw_ef`: how many candidates a search keeps in sight, k at least; `m` and `ef_construct`: edges per point of the
    graph, and candidates in sight while it is made. `client`: a `QdrantClient`; by default one for what the environment
    variable RECS_QDRANT_URL names: the URL of a server, with the key in RECS_QDRANT_API_KEY where it wants one; or
    Qdrant's local mode in a folder or in ":memory:", which scores every candidate and is for trying out.

    The collection is named after the vectors and the options of its graph. `build` sends what is not there yet, so
    that a restart, and other workers, send nothing; one that other vectors made stays as it is. Raises `ConfigError`
    for options that cannot be meant and where no place is named, `IndexUnreachable` where the server does not answer.
    """

    hnsw_ef: int = 128
    m: int = 16
    ef_construct: int = 100
    client: InitVar[QdrantClient | None] = None

    info: ClassVar[IndexInfo] = INFO

    def __post_init__(self, client: QdrantClient | None) -> None:
        for name, least in (("hnsw_ef", 1), ("m", 2), ("ef_construct", 4)):
            whole(self.spec, name, getattr(self, name), least)
        self._client = _client_of(os.environ.get(WHERE, "")) if client is None else client
        told = self._client.init_options
        self._place = told.get("url") or told.get("host") or told.get("path") or told.get("location")
        self._local = self._place == MEMORY or bool(told.get("path"))
        self._private = client is None and self._place == MEMORY
        self.collection: str | None = None

    def close(self) -> None:
        """Let go of the connection, or of the folder, which one process at a time may hold."""
        self._client.close()

    def _make(self, vectors: NDArray[np.float32]) -> None:
        name = self._named(vectors)
        with self._reaching():
            if self._private and self.collection is not None:  # an upsert may have changed it under its name
                self._client.delete_collection(self.collection)
            if not self._client.collection_exists(name):
                self._create(name, vectors.shape[1])
            sent = self._client.count(name).count == len(vectors)  # else it is new, or was cut off
        if not sent:
            self._send(name, vectors, np.arange(len(vectors)))
        self.collection = name

    def _create(self, name: str, dim: int) -> None:
        graph = models.HnswConfigDiff(m=self.m, ef_construct=self.ef_construct)
        points = models.VectorParams(size=dim, distance=models.Distance.DOT)
        try:
            self._client.create_collection(name, points, hnsw_config=graph)
        except UnexpectedResponse:
            if not self._client.collection_exists(name):  # else another worker was quicker
                raise

    def _renew(self, vectors: NDArray[np.float32], changed: NDArray[np.int64]) -> None:
        if not self._private:  # others may search the collection, under the name of its vectors
            return self._make(vectors)
        self._send(str(self.collection), vectors, changed)

    def _find(self, plan: SearchPlan, number: int) -> Found:
        found = np.full((len(plan.queries), number), -1, np.int64)
        params = None if self._local else models.SearchParams(hnsw_ef=max(self.hnsw_ef, number))
        for start in range(0, len(found), ASKED):
            asked = [
                models.QueryRequest(query=query.tolist(), limit=number, params=params)
                for query in plan.queries[start : start + ASKED]
            ]
            with self._reaching():
                answers = self._client.query_batch_points(str(self.collection), asked)
            for row, answer in enumerate(answers, start):
                found[row, : len(answer.points)] = [_position(point.id) for point in answer.points]
        return found, None

    def _parts(self) -> NoReturn:
        raise UnsupportedFeature(f"index 'qdrant' has no storable: {_why('storable')}")

    def _take(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> NoReturn:
        self._parts()

    def _send(self, name: str, vectors: NDArray[np.float32], positions: NDArray[np.integer]) -> None:
        rows = max(1, min(ROWS, NUMBERS // max(1, vectors.shape[1])))
        for start in range(0, len(positions), rows):
            some = positions[start : start + rows]
            points = models.Batch(ids=some.tolist(), vectors=vectors[some].tolist())
            with self._reaching():
                self._client.upsert(name, points, wait=True)

    def _named(self, vectors: NDArray[np.float32]) -> str:
        """By the vectors and all that the graph depends on."""
        digest = sha256(f"{vectors.shape} {self.m} {self.ef_construct}".encode())
        for start in range(0, len(vectors), ROWS):
            digest.update(np.ascontiguousarray(vectors[start : start + ROWS]).data)
        return f"recs-{digest.hexdigest()[:32]}"

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (ApiException, OSError) as error:
            raise IndexUnreachable(
                f"index 'qdrant' at {self._place}: {one_line(error) or type(error).__name__}; "
                f"see that it runs and that {WHERE} names it"
            ) from error


def _client_of(place: str) -> QdrantClient:
    """A client for a URL, a folder or ":memory:". Raises `ConfigError`."""
    if not place:
        raise ConfigError(
            f"index 'qdrant': no server is named; set {WHERE} to its URL, to a folder, or to {MEMORY} to try it out"
        )
    if place == MEMORY:
        return QdrantClient(MEMORY)
    if "://" in place:
        key = os.environ.get(KEY) or None
        return QdrantClient(url=place, api_key=key, timeout=SECONDS, check_compatibility=False)
    if os.sep not in place:  # as in localhost:6333, which would become a folder
        raise ConfigError(f"{WHERE}={place}: is no URL and no path; write http://{place}, or ./{place} for a folder")
    try:
        return QdrantClient(path=os.path.expanduser(place))
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{WHERE}={place}: {one_line(error)}") from error


def _position(id_: object) -> int:
    """−1 for a point that is none of ours: Qdrant's own ids may be UUIDs, and wider."""
    return id_ if isinstance(id_, int) and id_ < 2**62 else -1


def _why(capability: str) -> str:
    return str(getattr(INFO.capabilities[capability], "reason", ""))

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import recs_core as recs
from tests.service import shops


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its query tower has layers."""
    return shops.save(tmp_path_factory.mktemp("layers") / "bundle")


@pytest.fixture(scope="session")
def additive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its query tower has none: a score is a sum of parts."""
    return shops.save(tmp_path_factory.mktemp("additive") / "bundle", layers=())


@pytest.fixture(scope="session")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its query tower reads a history in order, and has no layers."""
    encoder = recs.SelfAttention(layers=1)
    return shops.save(tmp_path_factory.mktemp("ordered") / "bundle", layers=(), encoder=encoder)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `bundle`, trained from another seed."""
    return shops.save(tmp_path_factory.mktemp("other") / "bundle", seed=7)


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[TestClient]:
    with shops.ready(bundle) as client:
        yield client

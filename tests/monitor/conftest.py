from __future__ import annotations

from pathlib import Path

import pytest

from tests.service import shops


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Integer queries from 100 to 139, and 90 candidates."""
    return shops.save(tmp_path_factory.mktemp("monitored") / "bundle")

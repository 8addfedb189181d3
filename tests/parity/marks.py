"""When the tests of this folder run: asked for, and with every backend installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from recs_core.plugin.manager import list_backends

installed = {row.name for row in list_backends()} >= {"torch", "tensorflow"} and find_spec("jax") is not None
EVERY_BACKEND = [
    pytest.mark.slow,
    pytest.mark.skipif(not installed, reason="needs the torch and tensorflow plugins and jax: tox -e parity"),
]

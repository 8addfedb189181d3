"""Every check of the conformance suite, on a device: the oracle's numbers, of every option of the task, every feature,
encoder and optimizer."""

from __future__ import annotations

import pytest

import recs_core as recs
from recs_core.conformance import RetrievalConformance
from recs_core.conformance.runner import Session, session
from tests.device.place import DEVICE, ON_DEVICE

pytestmark = ON_DEVICE


class TestTorchOnADevice(RetrievalConformance):
    @classmethod
    def make_session(cls, config: pytest.Config) -> Session:
        return session(recs.backend("torch", device=DEVICE))

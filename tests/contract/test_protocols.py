"""What has the members of a protocol, however it comes by them."""

from __future__ import annotations

import pytest

from recs_core.contract import protocols
from recs_core.contract.protocols import Index, Model, Tower, lacking

PROTOCOLS = [kind for kind in vars(protocols).values() if getattr(kind, "_is_protocol", False)]


class Module:
    """As PyTorch's does, it finds its parts by `__getattr__`."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts

    def __getattr__(self, name: str) -> object:
        if name in self.__dict__["parts"]:
            return object()
        raise AttributeError(name)

    def version(self) -> int:
        return 0

    weights = load_weights = version


def test_parts_of_a_module_are_members() -> None:
    assert lacking(Module("query", "candidate", "task"), Model) == []
    assert lacking(Module("query", "task"), Model) == ["candidate"]


def test_calling_is_a_member() -> None:
    assert "__call__" in lacking(Module("plan", "output_dim", "native", "embed"), Tower)


def test_what_has_nothing_lacks_all() -> None:
    assert lacking(object(), Index) == ["info", "build", "search"]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda kind: kind.__name__)
def test_isinstance_is_no_way_to_ask(protocol: type) -> None:
    """From Python 3.12 on it answers otherwise than before."""
    with pytest.raises(TypeError, match="runtime"):
        isinstance(object(), protocol)

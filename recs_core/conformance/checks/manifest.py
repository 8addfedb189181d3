"""What a plugin says of itself, and whether it has the contract's members."""

from __future__ import annotations

from typing import Any

from recs_core.conformance import expect
from recs_core.conformance.context import DESCENT, BackendContext, IndexContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import World
from recs_core.contract import protocols
from recs_core.contract.manifest import BACKEND_CAPABILITIES, INDEX_CAPABILITIES, BackendInfo, IndexInfo, No


@check("manifest/backend", tier="manifest")
def backend_manifest(context: BackendContext) -> None:
    """`backend.info` is a `BackendInfo` with a name, a summary and a factory written as "module:attribute".

    Look at the manifest in plugin.py, and at what the factory's object carries as `info`.
    """
    _manifest(context.info, BackendInfo)


@check("manifest/capabilities", tier="manifest", rests_on=("manifest/backend",))
def backend_capabilities(context: BackendContext) -> None:
    """The manifest declares every capability, as True or `No(reason)`, and none that is unknown.

    What is left out is neither had nor lacked. `recs_core.contract.manifest.BACKEND_CAPABILITIES` lists them all.
    """
    _capabilities(context.info.capabilities, BACKEND_CAPABILITIES)


@check("manifest/protocols", tier="manifest", rests_on=("manifest/backend",))
def backend_protocols(context: BackendContext) -> None:
    """The backend, its model, towers, task and trainer have every member of `recs_core.contract.protocols`.

    The failure names the class that lacks one; look at which member of that protocol it is.
    """
    world = World()
    model = context.model(world)
    for built, protocol in (
        (context.backend, protocols.Backend),
        (model, protocols.Model),
        (model.query, protocols.Tower),
        (model.candidate, protocols.Tower),
        (model.task, protocols.RetrievalTask),
        (context.trainer(model, DESCENT), protocols.Trainer),
    ):
        lacks = protocols.lacking(built, protocol)
        expect.true(not lacks, type(built).__name__, f"a {protocol.__name__}", f"no {', '.join(lacks)}")
    for tower, plan in zip((model.query, model.candidate), world.plans, strict=True):
        expect.same("output_dim of a tower", tower.output_dim, plan.output_dim)
        expect.true(tower.plan == plan, "plan of a tower", plan, tower.plan)


@check("manifest/index", subject="index", tier="manifest")
def index_manifest(context: IndexContext) -> None:
    """`index.info` is an `IndexInfo` that searches by inner product, and declares every capability.

    Look at the manifest in plugin.py. The core composes vectors so that the score is their inner product.
    """
    _manifest(context.info, IndexInfo)
    expect.same("the metric", context.info.metric, "inner_product")
    _capabilities(context.info.capabilities, INDEX_CAPABILITIES)


def _manifest(info: Any, kind: type) -> None:
    expect.true(isinstance(info, kind), "info", kind.__name__, type(info).__name__)
    expect.true(bool(info.name and info.summary), "name and summary", "both", (info.name, info.summary))
    parts = info.factory.split(":")
    expect.true(len(parts) == 2 and all(parts), "factory", "'module:attribute'", info.factory)


def _capabilities(declared: Any, known: Any) -> None:
    expect.same("the names declared", sorted(declared), sorted(known))
    for name, value in declared.items():
        expect.true(value is True or isinstance(value, No), f"capability {name!r}", "True or No(reason)", value)

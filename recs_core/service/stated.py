"""What a service says of itself."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from recs_core.contract.columns import in_words, is_text
from recs_core.service import settings as limits
from recs_core.service.service import Service
from recs_core.version import __version__


def facts(service: Service) -> dict[str, Any]:
    """What `/info` says. Raises `Problem` 503 where no bundle serves."""
    served, said = service.serving.now, service.settings
    model, schema = served.model, served.model.schema
    columns = model.catalog.attributes.schema
    return {
        "version": __version__,
        "bundle": served.digest,
        "created": served.info.stated.created,
        "exact": served.exact,
        "index": served.searched.info.name,
        "query": schema.query_name,
        "candidate": schema.candidate_name,
        "query_ids": _kind(schema.queries.ids.type),
        "candidate_ids": _kind(schema.candidates.ids.type),
        "queries": len(schema.queries),
        "candidates": len(schema.candidates),
        "retired": len(model.catalog.retired),
        "context": [name for name in schema.context if name != schema.time_name],
        "reads_time": schema.time_name is not None,
        "explains": _explains(model.query_tower.plan),
        "columns": {column.name: in_words(column.type) for column in columns},
        "name": _name(columns),
        "unknown": said.unknown,
        "beside": service.beside is not None,
        "limits": {
            "body_bytes": said.max_body,
            "queries": limits.MAX_QUERIES,
            "k": limits.MAX_K,
            "listed_ids": limits.MAX_LISTED,
            "waiting": said.waiting,
            "deadline_seconds": said.deadline,
        },
    }


def _kind(ids: pa.DataType) -> str:
    return "integer" if pa.types.is_integer(ids) else "string"


def _explains(plan: Any) -> bool:
    return plan is not None and not plan.layers and all(column.kind != "sequence" for column in plan.columns)


def _name(columns: pa.Schema) -> str | None:
    """The column that names a candidate for people: the first of text beside its id, if any."""
    return next((column.name for column in list(columns)[1:] if is_text(column.type)), None)

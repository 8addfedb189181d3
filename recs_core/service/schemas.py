"""What a request may hold, and what an answer does: the OpenAPI is made of it. The names are those of `recommend`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from recs_core.service.settings import MAX_CONDITION, MAX_ID, MAX_K, MAX_LISTED, MAX_QUERIES

INT64 = 2**63

Text = Annotated[str, StringConstraints(max_length=MAX_ID)]
Integer = Annotated[int, Field(ge=-INT64, lt=INT64)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Id: TypeAlias = Integer | Text
Time: TypeAlias = Text | Integer | Number
Value: TypeAlias = bool | Integer | Number | Text | None
Ids = Annotated[list[Id], Field(max_length=MAX_LISTED)]
Columns: TypeAlias = dict[Text, Annotated[list[Value | list[Value]], Field(max_length=MAX_QUERIES)]]
Rows: TypeAlias = dict[Text, Annotated[list[Value | list[Value]], Field(max_length=MAX_LISTED)]]


class Asked(BaseModel):
    """Nothing that is unknown, and nothing of another type, is read as something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Filtered(Asked):
    """How many candidates, and which may come back."""

    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many candidates for each.")] = 10
    allow: Annotated[Ids | None, Field(description="The only candidates that may come back.")] = None
    where: Annotated[
        str | None,
        Field(
            max_length=MAX_CONDITION, description="What candidates must meet, such as price < 10 and country = 'UK'."
        ),
    ] = None
    attributes: Annotated[bool, Field(description="Each candidate with what the bundle's side table says of it.")] = (
        False
    )


class Recommend(Filtered):
    """Queries by id, by history, by features, or by several of these for the same rows."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queries": ["12347"], "k": 5, "exclude_seen": True}, {"history": [["22423"]]}]}
    )

    queries: Annotated[list[Id] | None, Field(min_length=1, max_length=MAX_QUERIES, description="Query ids.")] = None
    history: Annotated[
        list[Ids] | None,
        Field(min_length=1, max_length=MAX_QUERIES, description="A list of candidate ids per query, oldest first."),
    ] = None
    history_at: Annotated[
        list[Annotated[list[Time], Field(max_length=MAX_LISTED)]] | None,
        Field(min_length=1, max_length=MAX_QUERIES, description="When each candidate of history was."),
    ] = None
    features: Annotated[
        Columns | None, Field(min_length=1, description="Columns that the query tower reads, one value per query.")
    ] = None
    context: Annotated[
        Columns | Literal["blank"] | None, Field(description="What is known of each request, or blank for nothing.")
    ] = None
    at: Annotated[Time | None, Field(description="The time of the request; by default now.")] = None
    exclude: Annotated[
        list[Ids] | None,
        Field(
            min_length=1, max_length=MAX_QUERIES, description="Candidates that must not come back, a list per query."
        ),
    ] = None
    exclude_seen: Annotated[bool, Field(description="Leave out what training saw, and the history given.")] = False
    diversity: Annotated[
        float | None, Field(ge=0, le=1, allow_inf_nan=False, description="Choose for variety too.")
    ] = None
    pool: Annotated[int | None, Field(ge=1, le=10 * MAX_K, description="How many diversity chooses from.")] = None
    unknown: Annotated[
        Literal["oov", "popular", "error"] | None,
        Field(description="Queries never seen; by default as the service was told."),
    ] = None


class Similar(Filtered):
    """Candidates, whose neighbours are asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"candidates": ["85123A"], "k": 5}]})

    candidates: Annotated[list[Id], Field(min_length=1, max_length=MAX_QUERIES, description="Candidate ids.")]


class Explain(Asked):
    """A query and a candidate, whose score is taken apart."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "12347", "candidate": "22423"}]})

    query: Id | None = None
    candidate: Id
    history: Ids | None = None
    features: Annotated[Columns | None, Field(min_length=1)] = None
    context: Columns | Literal["blank"] | None = None
    at: Time | None = None


class History(Asked):
    """A query, whose candidates of the training data are asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "12347"}]})

    query: Id
    last: Annotated[int, Field(ge=1, le=MAX_K, description="How many, the latest first.")] = 50


class Queries(Asked):
    """What the ids of the queries that are asked for begin with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"starts_with": "123", "most": 10}]})

    starts_with: Text = ""
    most: Annotated[int, Field(ge=1, le=MAX_K, description="How many, in the order of training.")] = 50


class Update(Asked):
    """Candidates to change, to add and to retire."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"candidates": {"item_id": ["22423"], "price": [9.5]}, "retire": ["85123A"]}]}
    )

    candidates: Annotated[
        Rows | None, Field(min_length=1, description="Columns by name, the candidates' ids among them.")
    ] = None
    retire: Annotated[Ids, Field(description="Candidates that must not come back.")] = []


class Candidate(BaseModel):
    """One candidate of an answer."""

    id: int | str
    score: float
    attributes: dict[str, Any] | None = None


class Answer(BaseModel):
    """What one query is answered. `answered_by`: "model"; of a query of which nothing is known "oov", from OOV rows, or
    "popular". `excluded`: how many candidates could not come back for this query. `returned` < `requested_k` only where
    no more are left."""

    query: int | str | None
    unknown_query: bool
    answered_by: Literal["model", "oov", "popular"]
    requested_k: int
    returned: int
    excluded: int
    candidates: list[Candidate]


class Answers(BaseModel):
    """`bundle`: the digest of the one that all answers are of. `exact`: whether every candidate was scored."""

    bundle: str
    exact: bool
    answers: list[Answer]


class Neighbours(BaseModel):
    """What is near to one candidate, by cosine."""

    candidate: int | str
    requested_k: int
    returned: int
    candidates: list[Candidate]


class Similars(BaseModel):
    """As `Answers`."""

    bundle: str
    exact: bool
    answers: list[Neighbours]


class Part(BaseModel):
    """A part of a score."""

    name: str
    value: float


class Explained(BaseModel):
    """A score and the parts that it is the sum of."""

    bundle: str
    score: float
    parts: list[Part]


class Past(BaseModel):
    """What training saw of a query, the latest first. `of`: how many there are."""

    bundle: str
    query: int | str
    unknown_query: bool
    of: int
    candidates: list[dict[str, Any]]


class Known(BaseModel):
    """Queries that training saw. `of`: how many there are that begin so."""

    bundle: str
    of: int
    queries: list[int | str]


class Error(BaseModel):
    """Why there is no answer: a line for people, a word for programs, and the field that is at fault."""

    error: str
    error_type: str
    field: str | None

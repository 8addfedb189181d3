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

TEXT = f"text of at most {MAX_ID:,} characters"
ID = f"an integer of 64 bits or {TEXT}"
IDS = f"at most {MAX_LISTED:,} ids, each {ID}"
LISTS = f"1 to {MAX_QUERIES} lists, one per query"
TIME = f"a time as {TEXT} or as a finite number of seconds"
VALUES = f"true, false, null, finite numbers, {TEXT}, or lists of these"
COLUMNS = f"an object of columns by name, each a list of at most {MAX_QUERIES} values: {VALUES}"
FEATURES = f"columns that the query tower reads, one value per query: {COLUMNS}"
CONTEXT = f'what is known of each request: "blank" for nothing, or {COLUMNS}'

Unknown: TypeAlias = Annotated[
    Literal["oov", "popular", "error"] | None,
    Field(description='"oov", "popular" or "error" for queries never seen; by default as the service was told'),
]


class Asked(BaseModel):
    """Nothing that is unknown, and nothing of another type, is read as something else. A field's description says what
    it takes, and is what a request is told that brings something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Filtered(Asked):
    """How many candidates, and which may come back."""

    k: Annotated[
        int, Field(ge=1, le=MAX_K, description=f"the number of candidates for each, an integer from 1 to {MAX_K:,}")
    ] = 10
    allow: Annotated[Ids | None, Field(description=f"the only candidates that may come back: {IDS}")] = None
    where: Annotated[
        str | None,
        Field(
            max_length=MAX_CONDITION,
            description="what candidates must meet, such as price < 10 and country = 'UK': text of at most "
            f"{MAX_CONDITION:,} characters",
        ),
    ] = None
    attributes: Annotated[
        bool, Field(description="true for each candidate with what the bundle's side table says of it, or false")
    ] = False


class Recommend(Filtered):
    """Queries by id, by history, by features, or by several of these for the same rows."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queries": ["12347"], "k": 5, "exclude_seen": True}, {"history": [["22423"]]}]}
    )

    queries: Annotated[
        list[Id] | None,
        Field(min_length=1, max_length=MAX_QUERIES, description=f"1 to {MAX_QUERIES} ids of queries, each {ID}"),
    ] = None
    history: Annotated[
        list[Ids] | None,
        Field(
            min_length=1,
            max_length=MAX_QUERIES,
            description=f"{LISTS}, of the candidates that it had, oldest first: {IDS}",
        ),
    ] = None
    history_at: Annotated[
        list[Annotated[list[Time], Field(max_length=MAX_LISTED)]] | None,
        Field(
            min_length=1,
            max_length=MAX_QUERIES,
            description=f"{LISTS}, of when each candidate of history was: {TIME}",
        ),
    ] = None
    features: Annotated[Columns | None, Field(min_length=1, description=FEATURES)] = None
    context: Annotated[Columns | Literal["blank"] | None, Field(description=CONTEXT)] = None
    at: Annotated[Time | None, Field(description=f"when the request is, by default now: {TIME}")] = None
    exclude: Annotated[
        list[Ids] | None,
        Field(
            min_length=1,
            max_length=MAX_QUERIES,
            description=f"{LISTS}, of candidates that must not come back: {IDS}",
        ),
    ] = None
    exclude_seen: Annotated[
        bool, Field(description="true to leave out what training saw and the history given, or false")
    ] = False
    diversity: Annotated[
        float | None,
        Field(ge=0, le=1, allow_inf_nan=False, description="how much variety counts, a number from 0 to 1"),
    ] = None
    pool: Annotated[
        int | None,
        Field(ge=1, le=10 * MAX_K, description=f"how many diversity chooses from, an integer from 1 to {10 * MAX_K:,}"),
    ] = None
    unknown: Unknown = None


class Similar(Filtered):
    """Candidates, whose neighbours are asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"candidates": ["85123A"], "k": 5}]})

    candidates: Annotated[
        list[Id],
        Field(min_length=1, max_length=MAX_QUERIES, description=f"1 to {MAX_QUERIES} ids of candidates, each {ID}"),
    ]


class Explain(Asked):
    """A query and a candidate, whose score is taken apart."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "12347", "candidate": "22423"}]})

    query: Annotated[Id | None, Field(description=f"one query's id, {ID}")] = None
    candidate: Annotated[Id, Field(description=f"one candidate's id, {ID}")]
    history: Annotated[Ids | None, Field(description=f"the candidates that the query had, oldest first: {IDS}")] = None
    features: Annotated[Columns | None, Field(min_length=1, description=FEATURES)] = None
    context: Annotated[Columns | Literal["blank"] | None, Field(description=CONTEXT)] = None
    at: Annotated[Time | None, Field(description=f"when the request is, by default now: {TIME}")] = None
    unknown: Unknown = None


class History(Asked):
    """A query, whose candidates of the training data are asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "12347"}]})

    query: Annotated[Id, Field(description=f"one query's id, {ID}")]
    last: Annotated[
        int, Field(ge=1, le=MAX_K, description=f"how many, the latest first, an integer from 1 to {MAX_K:,}")
    ] = 50


class Queries(Asked):
    """What the ids of the queries that are asked for begin with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"starts_with": "123", "most": 10}]})

    starts_with: Annotated[Text, Field(description=f"what the ids begin with, {TEXT}")] = ""
    most: Annotated[
        int, Field(ge=1, le=MAX_K, description=f"how many, in the order of training, an integer from 1 to {MAX_K:,}")
    ] = 50


class Reload(Asked):
    """Nothing but an object: what is served lies at the bundle's path."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class Update(Asked):
    """Candidates to change, to add and to retire."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"candidates": {"item_id": ["22423"], "price": [9.5]}, "retire": ["85123A"]}]}
    )

    candidates: Annotated[
        Rows | None,
        Field(
            min_length=1,
            description="an object of columns by name, the candidates' ids among them, each a list of at most "
            f"{MAX_LISTED:,} values: {VALUES}",
        ),
    ] = None
    retire: Annotated[Ids, Field(description=f"candidates that must not come back: {IDS}")] = []


SCHEMAS: dict[str, type[Asked]] = {
    each.__name__: each for each in (Recommend, Similar, Explain, History, Queries, Update)
}
"""What a body may be, by name."""


class Candidate(BaseModel):
    """One candidate of an answer."""

    id: int | str
    score: float
    attributes: dict[str, Any] | None = None


class Answer(BaseModel):
    """What one query is answered. `unknown_query`: training never saw its id, or nothing is known of it. `answered_by`:
    "model"; of a query of which nothing is known "oov", from OOV rows, or "popular". `excluded`: how many candidates
    could not come back for this query. `returned` < `requested_k` only where no more are left."""

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
    """A score and the parts that it is the sum of. `unknown_query` and `answered_by` as of `Answer`; popularity has no
    parts."""

    bundle: str
    unknown_query: bool
    answered_by: Literal["model", "oov"]
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

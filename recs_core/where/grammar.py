"""A condition as a line of text, for the shell: `price < 10 and country = "UK"`.

    condition   all ("or" all)*
    all         one ("and" one)*
    one         "not" one | "(" condition ")" | column test
    test        ("=" | "!=" | "<" | "<=" | ">" | ">=") value
              | ["not"] "in" "(" value ("," value)* ")"
              | "is" ["not"] "null"
    column      a word, or anything in `backquotes`
    value       a number, "a string", 'a string' (its quote twice is one of it), true, false

Words of the grammar may be in capitals. Nothing is evaluated here: the text becomes an Arrow expression.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from recs_core.contract.errors import DataError
from recs_core.where.filters import column_of
from recs_core.where.values import SIGNS, compared, one_of

LONGEST, DEEPEST = 10_000, 50
"""Characters of a condition, and brackets and `not` within one another."""

WORDS: Final = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"]|"")*"|'(?:[^']|'')*')
      | (?P<quoted>`[^`]+`)
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<word>[^\W\d]\w*)
      | (?P<sign><=|>=|!=|==|<>|=|<|>|\(|\)|,)
      | (?P<end>\Z)
    )""",
    flags=re.X,
)
_HINTS: Final = {"&": "write and", "|": "write or", "!": "write not"}

Join: TypeAlias = Callable[[pc.Expression, pc.Expression], pc.Expression]


@dataclass(frozen=True)
class _Token:
    """`kind`: a group of `_TOKEN`, or "keyword". `text`: as written; of a keyword in small letters."""

    kind: str
    text: str
    start: int

    def is_(self, *texts: str) -> bool:
        return self.kind in ("keyword", "sign") and self.text in texts


def parse(text: str, columns: pa.Schema) -> pc.Expression:
    """The condition that the text states over these columns, as an Arrow expression.

    Raises `DataError`, with the place at fault, for text that is no condition, a column that is not there, or a value
    that the column cannot hold.
    """
    if len(text) > LONGEST:
        raise DataError(f"where: is {len(text):,} characters long, the most that is read is {LONGEST:,}")
    return _Parser(text, columns).whole()


class _Parser:
    """Recursive descent, a method per rule."""

    def __init__(self, text: str, columns: pa.Schema) -> None:
        self.text, self.columns = text, columns
        self.depth = 0
        self.next = self._token(0)

    def whole(self) -> pc.Expression:
        found = self._condition()
        if self.next.kind != "end":
            self._fail("expected and, or, or the end")
        return found

    # Rules

    def _condition(self) -> pc.Expression:
        return self._several("or", operator.or_, lambda: self._several("and", operator.and_, self._one))

    def _several(self, word: str, join: Join, one: Callable[[], pc.Expression]) -> pc.Expression:
        each = [one()]
        while self._took(word):
            each.append(one())
        return _joined(each, join)

    def _one(self) -> pc.Expression:
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(f"more than {DEEPEST} conditions within one another")
        if self._took("not"):
            found = ~self._one()
        elif self._took("("):
            found = self._condition()
            self._need(")")
        else:
            found = self._test()
        self.depth -= 1
        return found

    def _test(self) -> pc.Expression:
        column = self._column()
        if self.next.is_(*SIGNS):
            sign = self._take().text
            start = self.next
            value = self._value()
            return self._placed(start, lambda: compared(column, sign, value))
        if self._took("is"):
            negated = self._took("not")
            self._need("null")
            field = pc.field(column.name)
            return field.is_valid() if negated else field.is_null()
        negated = self._took("not")
        if not self._took("in"):
            self._fail("expected in" if negated else "expected =, !=, <, <=, >, >=, in, not in, is null or is not null")
        found = self._among(column)
        return ~found if negated else found

    def _among(self, column: pa.Field) -> pc.Expression:
        self._need("(")
        start = self.next
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        self._need(")")
        return self._placed(start, lambda: one_of(column, values))

    def _column(self) -> pa.Field:
        token = self.next
        if token.kind not in ("word", "quoted"):
            hint = ", the column stands first" if token.kind in ("string", "number") else ""
            self._fail(f"expected a column{hint}")
        self._take()
        return self._placed(token, lambda: column_of(token.text.strip("`"), self.columns))

    def _value(self) -> Any:
        token = self.next
        if token.kind == "string":
            quote = token.text[0]
            value: Any = token.text[1:-1].replace(quote * 2, quote)
        elif token.kind == "number":
            value = Decimal(token.text) if set(".eE") & set(token.text) else int(token.text)
        elif token.is_("true", "false"):
            value = token.text == "true"
        elif token.is_("null"):
            self._fail("nothing equals null, write is null")
        else:
            hint = f", write '{token.text}' if it is a string" if token.kind == "word" else ""
            self._fail(f"expected a value{hint}")
        self._take()
        return value

    # Tokens

    def _token(self, place: int) -> _Token:
        found = _TOKEN.match(self.text, place)
        if found is None:
            start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
            self._fail(_why_no_token(self.text[start:]), start)
        kind = str(found.lastgroup)
        text, start = found[kind], found.start(kind)
        if kind == "word" and text.lower() in WORDS:
            return _Token("keyword", text.lower(), start)
        return _Token(kind, text, start)

    def _take(self) -> _Token:
        taken = self.next
        self.next = self._token(taken.start + len(taken.text))
        return taken

    def _took(self, text: str) -> bool:
        found = self.next.is_(text)
        if found:
            self._take()
        return found

    def _need(self, text: str) -> None:
        if not self._took(text):
            self._fail(f"expected {text}")

    def _placed(self, token: _Token, make: Callable[[], Any]) -> Any:
        """What `make` makes; what it cannot read stands at this token."""
        try:
            return make()
        except DataError as error:
            self._fail(str(error), token.start)

    def _fail(self, what: str, start: int | None = None) -> NoReturn:
        at = self.next.start if start is None else start
        before, after = self.text[:at], self.text[at:]
        shown = f"{before[-40:]}▸{after[:40]}"
        raise DataError(f"where, character {at + 1}: {what}; ▸ marks the place: {' '.join(shown.split())}") from None


def _joined(each: list[pc.Expression], join: Join) -> pc.Expression:
    """A balanced tree: Arrow walks expressions by recursion, in time that grows with their depth squared."""
    if len(each) == 1:
        return each[0]
    middle = len(each) // 2
    return join(_joined(each[:middle], join), _joined(each[middle:], join))


def _why_no_token(text: str) -> str:
    if text[0] in "\"'`":
        return f"a {text[0]} that nothing closes"
    hint = _HINTS.get(text[0])
    return f"{text[0]!r} means nothing here" + (f", {hint}" if hint else "")

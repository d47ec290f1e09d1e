"""What both spellings of a filter share: budgets, coercion and errors with a place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lookalike.collections import (
    Fields,
    FieldType,
    MetadataValue,
    coerce,
    nearest,
    shorten,
    unknown_field,
)
from lookalike.errors import BadFilter, BadMetadata
from lookalike.filters.tree import (
    And,
    AnyOf,
    Compare,
    Comparison,
    Exists,
    Filter,
    Not,
    Or,
)

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1_000  # in one list
MAX_ALL_VALUES = 10_000  # in all lists
MAX_TEXT_BYTES = 2**20  # in all values; a server reads 1 MB in 0.1 s, 20 MB in 2 s
SHOWN_NAME = 80  # characters of a name, where a place is told

Entry = tuple[object, str]  # of a list, with its place


class Reading:
    """Reads one filter; counts what it has read against the budgets."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.conditions = 0
        self.values = 0
        self.text_bytes = 0

    def check_depth(self, depth: int, at: str) -> None:
        """Refuse what is nested too deeply.

        Raises:
            BadFilter: code ``filter_too_large``.
        """
        if depth > MAX_DEPTH:
            raise bad(at, f"nested deeper than {MAX_DEPTH}", "filter_too_large")

    def count(self, at: str, conditions: int = 1) -> None:
        """Count conditions; what is empty counts as one, so that nothing is free.

        Raises:
            BadFilter: code ``filter_too_large``.
        """
        self.conditions += conditions
        if self.conditions > MAX_CONDITIONS:
            raise bad(at, f"more than {MAX_CONDITIONS} conditions", "filter_too_large")

    def kind(self, name: str, at: str, *other_names: str) -> FieldType:
        """The declared type of a field.

        Raises:
            BadFilter: code ``filter_unknown_field``; the nearest name is told, also of
                ``other_names``, which could stand in the place of a field.
        """
        if name in self.fields:
            return self.fields[name]
        detail, extra = unknown_field(name, self.fields, other_names)
        raise bad(at, detail, "filter_unknown_field", extra)

    def groups(
        self, raw: object, at: str, read: Callable[[object, str], Filter]
    ) -> tuple[Filter, ...]:
        """The parts in a list of objects."""
        if not isinstance(raw, list):
            raise bad(at, f"expected a list of objects, got {shorten(raw)}")
        if len(raw) > MAX_CONDITIONS:
            raise bad(at, f"more than {MAX_CONDITIONS} entries", "filter_too_large")
        if not raw:
            self.count(at)
        return tuple(read(part, f"{at}[{place}]") for place, part in enumerate(raw))

    def entries(self, raw: object, at: str) -> list[Entry]:
        """The values in a list, each with its place."""
        if not isinstance(raw, list):
            raise bad(at, f"expected a list, got {shorten(raw)}", "filter_wrong_type")
        self.values += len(raw)
        if len(raw) > MAX_VALUES:
            raise bad(at, f"more than {MAX_VALUES} values", "filter_too_large")
        if self.values > MAX_ALL_VALUES:
            problem = f"more than {MAX_ALL_VALUES} values in all lists"
            raise bad(at, problem, "filter_too_large")
        return [(value, f"{at}[{place}]") for place, value in enumerate(raw)]

    def value(self, name: str, raw: object, at: str) -> MetadataValue:
        """One value of the declared type; of a string[], one entry."""
        kind = self.fields[name]
        one = FieldType.STRING if kind is FieldType.STRINGS else kind
        try:
            value = coerce(name, one, raw)
        except BadMetadata as error:
            raise bad(at, error.detail, "filter_wrong_type", error.extra) from None
        self.text_bytes += len(value.encode()) if isinstance(value, str) else 0
        if self.text_bytes > MAX_TEXT_BYTES:
            problem = f"more than {MAX_TEXT_BYTES} bytes of text in all values"
            raise bad(at, problem, "filter_too_large")
        return value

    def equal(self, name: str, raw: object, at: str) -> Filter:
        """The field equals the value; null means that it is absent."""
        if raw is None:
            return Not(Exists(name))
        value = self.value(name, raw, at)
        return Compare(name, self.fields[name], Comparison.EQ, value)

    def any_of(self, name: str, raw: object, at: str, *, nulls: bool) -> Filter:
        """The field equals one of the values; null, if taken, means it is absent."""
        entries = self.entries(raw, at)
        present = [entry for entry in entries if not (nulls and entry[0] is None)]
        values = tuple(self.value(name, *entry) for entry in present)
        leaf = AnyOf(name, self.fields[name], values)
        return leaf if len(present) == len(entries) else Or((Not(Exists(name)), leaf))


def conjunction(parts: list[Filter]) -> Filter:
    """The parts, all of which hold; a single one is itself."""
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def boolean(raw: object, at: str) -> bool:
    """True or false, and nothing that resembles them.

    Raises:
        BadFilter: code ``filter_wrong_type``.
    """
    if isinstance(raw, bool):
        return raw
    raise bad(at, f"expected true or false, got {shorten(raw)}", "filter_wrong_type")


def suggestion(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'NAME'?)``, or nothing if none is like it."""
    guess = nearest(name, names)
    return f" (did you mean {guess!r}?)" if guess else ""


def below(at: str, name: str) -> str:
    """The place of a member of what is at a place."""
    name = name if len(name) <= SHOWN_NAME else name[: SHOWN_NAME - 3] + "..."
    return f"{at}.{name}" if at else name


def bad(
    at: str,
    problem: str,
    code: str = "filter_invalid",
    extra: Mapping[str, object] | None = None,
) -> BadFilter:
    """The error that says what is wrong with a filter, and where."""
    where = f"Filter, at {at}: " if at else "Filter: "
    end = "" if problem.endswith(".") else "."
    return BadFilter(
        f"{where}{problem}{end}", code=code, extra={**(extra or {}), "at": at}
    )

"""The filter language: typed JSON in two spellings, read to one tree.

``parse`` reads the field-first spelling (``{"price": {"$lt": 50}}``) and Qdrant's
(``{"must": [{"key": "price", "range": {"lt": 50}}]}``); ``matches`` says what a tree
means, and every index is held to it.

**Null, for every engine alike.** A field that is null and a field that is not there
are one thing: absent. No test of a value holds for an absent field, and negation is
plain: ``$not``, ``$ne``, ``$nin`` and ``must_not`` hold exactly where the test does
not. So ``{"price": {"$ne": 5}}`` and ``{"$not": {"price": {"$gt": 5}}}`` keep images
without a price, ``{"price": {"$gt": 5}}`` does not. Ask for absence by
``{"price": null}`` or ``{"price": {"$exists": false}}``, which are the same. An empty
string[] is there: it contains nothing, so ``{"$all": []}`` holds for it.
"""

from __future__ import annotations

from lookalike.collections import Fields
from lookalike.filters.native import read_group
from lookalike.filters.reading import (
    MAX_ALL_VALUES,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_TEXT_BYTES,
    MAX_VALUES,
    Reading,
)
from lookalike.filters.tree import (
    AllOf,
    And,
    AnyOf,
    Compare,
    Comparison,
    Empty,
    Exists,
    Filter,
    Leaf,
    Not,
    Or,
    Prefix,
    Within,
    is_exact,
    matches,
)

__all__ = [
    "MAX_ALL_VALUES",
    "MAX_CONDITIONS",
    "MAX_DEPTH",
    "MAX_TEXT_BYTES",
    "MAX_VALUES",
    "AllOf",
    "And",
    "AnyOf",
    "Compare",
    "Comparison",
    "Empty",
    "Exists",
    "Filter",
    "Leaf",
    "Not",
    "Or",
    "Prefix",
    "Within",
    "is_exact",
    "matches",
    "parse",
]


def parse(raw: object, fields: Fields) -> Filter | None:
    """The tree of a filter in JSON, every value coerced to its declared type.

    Gives None for ``{}`` and null: everything matches.

    Raises:
        BadFilter: ``filter_invalid``, ``filter_unknown_field`` (the nearest is named),
            ``filter_wrong_type`` or ``filter_too_large``; ``extra["at"]`` says where,
            such as ``$or[1].price.$lt`` or ``must[0].range.lt``.
    """
    if raw is None or raw == {}:
        return None
    return read_group(Reading(fields), raw, "", depth=1)

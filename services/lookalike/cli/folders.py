"""A folder of pictures and the table that describes them."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lookalike.collections import (
    INT64,
    Fields,
    FieldType,
    check_fields,
    parse_datetime,
    shorten,
)
from lookalike.errors import BadMetadata

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"),
    *(".tif", ".tiff", ".heic", ".heif"),
)
NAME_COLUMNS = ("file", "path", "filename", "image", "id")
SAMPLE = 5  # names given in a message

Row = Mapping[str, object]

WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
DECIMAL = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].+)?")
TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Picture:
    """A file to ingest and the id it gets."""

    path: Path
    id: str  # the path below the folder, with "/"

    @property
    def category(self) -> str | None:
        """The first folder on the way to it; none for a file at the top."""
        folder, slash, _ = self.id.partition("/")
        return folder if slash else None


def walk(folder: Path, *, all_files: bool = False) -> Iterator[Picture]:
    """Every picture below a folder, in the same order each time.

    Hidden files are left out. A folder that is reached twice, through a link, is
    walked once.
    """
    return _walk(folder, "", all_files, set())


def _walk(
    folder: Path, prefix: str, all_files: bool, seen: set[tuple[int, int]]
) -> Iterator[Picture]:
    known = folder.stat()
    if (known.st_dev, known.st_ino) in seen:
        return
    seen.add((known.st_dev, known.st_ino))
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        # As a picture that cannot be read it is reported, and does not go unnoticed.
        yield Picture(folder, prefix.rstrip("/"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        name = prefix + entry.name
        if _is_folder(entry):
            yield from _walk(Path(entry.path), f"{name}/", all_files, seen)
        elif all_files or Path(entry.name).suffix.lower() in EXTENSIONS:
            yield Picture(Path(entry.path), name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


# --- the table -----------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Metadata of files by name, and the types that fit all of its rows."""

    rows: Mapping[str, Row]
    fields: Fields
    is_text: bool  # a CSV file, whose values are still text


@dataclass
class Joined:
    """A table laid beside the pictures of a folder."""

    metadata: dict[str, Row] = field(default_factory=dict)  # by id
    without_row: list[str] = field(default_factory=list)  # pictures
    without_file: list[str] = field(default_factory=list)  # rows

    def complaints(self) -> Iterator[str]:
        """A line for what does not fit, if anything."""
        if self.without_file:
            yield (
                f"{_count(self.without_file, 'row')} of the metadata file name no "
                f"picture of the folder: {_sample(self.without_file)}"
            )
        if self.without_row:
            yield (
                f"{_count(self.without_row, 'picture')} have no row in the metadata "
                f"file: {_sample(self.without_row)}"
            )


def read_table(file: Path) -> Table:
    """The rows of a CSV or NDJSON file.

    Each row names its picture in a column ``file`` (or ``path``, ``filename``,
    ``image``, ``id``); every other column is a metadata field.

    Raises:
        BadMetadata: the file cannot be read; names the line.
    """
    is_text = file.suffix.lower() not in (".ndjson", ".jsonl", ".json")
    rows: dict[str, Row] = {}
    try:
        for line, row in _csv_rows(file) if is_text else _json_rows(file):
            column = _name_column(row, line)
            name = _plain(str(row[column]))
            values = {
                key: value
                for key, value in row.items()
                if key != column and value is not None and value != ""
            }
            if name in rows:
                raise BadMetadata(f"Line {line}: there are two rows for {name!r}.")
            rows[name] = values
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadMetadata(f"{file.name} is not CSV in UTF-8: {error}.") from error
    except OSError as error:
        raise BadMetadata(f"{file} cannot be read: {error.strerror}.") from error
    return Table(rows, infer(rows.values(), is_text=is_text), is_text)


def _csv_rows(file: Path) -> Iterator[tuple[int, Row]]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise BadMetadata(
                    f"Line {reader.line_num} has not as many cells as the first line."
                )
            yield reader.line_num, {key.strip(): cell for key, cell in row.items()}


def _json_rows(file: Path) -> Iterator[tuple[int, Row]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadMetadata(f"Line {number} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise BadMetadata(f"Line {number} is not a JSON object.")
            yield number, row


def _name_column(row: Row, line: int) -> str:
    by_lower = {key.lower(): key for key in reversed(list(row))}
    for name in NAME_COLUMNS:
        if name in by_lower and isinstance(row[by_lower[name]], str):
            return by_lower[name]
    raise BadMetadata(
        f"Line {line}: no column names the picture; accepted: "
        f"{', '.join(NAME_COLUMNS)}. There is: {', '.join(row) or 'nothing'}."
    )


def _plain(name: str) -> str:
    return str(PurePosixPath(name.strip().replace("\\", "/").removeprefix("./")))


def join(table: Table, pictures: Iterable[Picture]) -> Joined:
    """Which row belongs to which picture.

    A row names the path below the folder, or, where only one picture is called so,
    the bare file name.
    """
    ids = [picture.id for picture in pictures]
    by_name: dict[str, list[str]] = {}
    for image_id in ids:
        by_name.setdefault(image_id.rpartition("/")[2], []).append(image_id)
    joined = Joined()
    known = set(ids)
    for name, row in table.rows.items():
        called_so = [name] if name in known else by_name.get(name, [])
        if len(called_so) == 1 and called_so[0] not in joined.metadata:
            joined.metadata[called_so[0]] = row
        else:
            joined.without_file.append(name)
    joined.without_row = [one for one in ids if one not in joined.metadata]
    return joined


# --- types ---------------------------------------------------------------------------


def infer(rows: Iterable[Row], *, is_text: bool) -> dict[str, FieldType]:
    """The narrowest type of each column that all of its values have.

    Raises:
        BadMetadata: a name that no field can have, or values of no common type.
    """
    kinds: dict[str, set[FieldType]] = {}
    for row in rows:
        for name, value in row.items():
            kind = _kind_of_text(str(value)) if is_text else _kind(name, value)
            kinds.setdefault(name, set()).add(kind)
    return check_fields({name: _common(name, found) for name, found in kinds.items()})


def _kind_of_text(text: str) -> FieldType:
    if text.lower() in TRUTH:
        return FieldType.BOOL
    if WHOLE.fullmatch(text) and -INT64 <= int(text) < INT64:
        return FieldType.INT
    # "007" and a run of 20 digits are names of something, not numbers.
    if DECIMAL.fullmatch(text) and not text.lstrip("-").isdecimal():
        return FieldType.FLOAT
    if _is_moment(text):
        return FieldType.DATETIME
    return FieldType.STRINGS if _list_in(text) is not None else FieldType.STRING


def _kind(name: str, value: object) -> FieldType:
    match value:
        case bool():
            return FieldType.BOOL
        case int():
            return FieldType.INT
        case float():
            return FieldType.FLOAT
        case str():
            return FieldType.DATETIME if _is_moment(value) else FieldType.STRING
        case list() if all(isinstance(entry, str) for entry in value):
            return FieldType.STRINGS
        case {"lat": int() | float(), "lon": int() | float()}:
            return FieldType.GEO
    raise BadMetadata(f"Field {name!r}: {shorten(value)} fits no type of field.")


def _is_moment(text: str) -> bool:
    if not DATE.fullmatch(text):
        return False
    try:
        parse_datetime("", text)
    except BadMetadata:
        return False
    return True


def _list_in(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    is_list = isinstance(value, list) and all(isinstance(v, str) for v in value)
    return value if is_list else None


def _common(name: str, kinds: set[FieldType]) -> FieldType:
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {FieldType.INT, FieldType.FLOAT}:
        return FieldType.FLOAT
    if FieldType.STRING in kinds or FieldType.DATETIME in kinds:
        return FieldType.STRING
    found = ", ".join(sorted(kinds))
    raise BadMetadata(f"Field {name!r} has values of several types: {found}.")


def typed(row: Row, fields: Fields) -> dict[str, object]:
    """A row of text with each value as its declared type has it.

    What cannot be converted stays text: the server says why it does not fit.
    """
    return {
        name: _typed(str(value), fields[name]) if name in fields else value
        for name, value in row.items()
    }


def _typed(text: str, kind: FieldType) -> object:
    converters: dict[FieldType, Callable[[str], object]] = {
        FieldType.INT: int,
        FieldType.FLOAT: float,
        FieldType.BOOL: lambda value: TRUTH[value.lower()],
        FieldType.STRINGS: lambda value: _list_in(value) or [value],
    }
    try:
        return converters.get(kind, str)(text)
    except (ValueError, KeyError):
        return text


def _count(names: list[str], noun: str) -> str:
    return f"{len(names):,} {noun}{'s' if len(names) != 1 else ''}"


def _sample(names: list[str]) -> str:
    shown = ", ".join(names[:SAMPLE])
    return f"{shown}, …" if len(names) > SAMPLE else shown

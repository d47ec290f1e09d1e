from __future__ import annotations

from pathlib import Path

import pytest

from lookalike.cli.folders import Picture, join, read_table, typed, walk
from lookalike.collections import FieldType
from lookalike.errors import BadMetadata


def folder(at: Path, *names: str) -> Path:
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(b"x")
    return at


def ids(at: Path, *, all_files: bool = False) -> list[str]:
    return [picture.id for picture in walk(at, all_files=all_files)]


def table(at: Path, text: str, name: str = "table.csv") -> Path:
    file = at / name
    file.write_text(text, encoding="utf-8")
    return file


# --- walking -------------------------------------------------------------------------


def test_pictures_come_in_order_with_their_path_as_id(tmp_path: Path) -> None:
    folder(tmp_path, "b/2.PNG", "a.webp", "b/1.jpeg", "b/c/3.gif", "notes.txt")

    assert ids(tmp_path) == ["a.webp", "b/1.jpeg", "b/2.PNG", "b/c/3.gif"]


def test_the_first_folder_is_the_category(tmp_path: Path) -> None:
    folder(tmp_path, "shoes/new/1.jpg", "2.jpg")

    found = {picture.id: picture.category for picture in walk(tmp_path)}

    assert found == {"shoes/new/1.jpg": "shoes", "2.jpg": None}


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    folder(tmp_path, "._1.jpg", ".git/2.jpg", "3.jpg", ".DS_Store")

    assert ids(tmp_path, all_files=True) == ["3.jpg"]


def test_every_file_is_tried_when_asked_to(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg", "no extension", "notes.txt")

    assert ids(tmp_path, all_files=True) == ["1.jpg", "no extension", "notes.txt"]


def test_a_loop_of_links_is_walked_once(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")

    assert ids(tmp_path) == ["a/1.jpg"]


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    folder(tmp_path / "far", "1.jpg")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")

    assert ids(tmp_path / "near") == ["link/1.jpg"]


# --- tables --------------------------------------------------------------------------


def test_the_columns_of_a_csv_get_the_narrowest_type(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        "file,name,count,price,new,since,tags,code\n"
        '1.jpg,boot,3,1,true,2026-01-31,"[""red""]",007\n'
        "2.jpg,,-4,2.5,FALSE,2026-02-01T10:00:00Z,[],12\n",
    )

    read = read_table(file)

    assert read.fields == {
        "name": FieldType.STRING,
        "count": FieldType.INT,
        "price": FieldType.FLOAT,
        "new": FieldType.BOOL,
        "since": FieldType.DATETIME,
        "tags": FieldType.STRINGS,
        "code": FieldType.STRING,
    }
    assert typed(read.rows["1.jpg"], read.fields) == {
        "name": "boot",
        "count": 3,
        "price": 1.0,
        "new": True,
        "since": "2026-01-31",
        "tags": ["red"],
        "code": "007",
    }
    assert "name" not in read.rows["2.jpg"]


def test_text_of_a_csv_becomes_what_the_collection_declares(tmp_path: Path) -> None:
    read = read_table(table(tmp_path, "file,size\n1.jpg,42\n"))

    assert typed(read.rows["1.jpg"], {"size": FieldType.STRING}) == {"size": "42"}
    assert typed(read.rows["1.jpg"], {"size": FieldType.FLOAT}) == {"size": 42.0}
    assert typed(read.rows["1.jpg"], {"size": FieldType.BOOL}) == {"size": "42"}


def test_ndjson_keeps_the_types_it_has(tmp_path: Path) -> None:
    text = (
        '{"path": "1.jpg", "price": 1, "tags": ["a"], "new": true, "x": null, '
        '"place": {"lat": 52, "lon": 13.4}}\n\n'
        '{"path": "2.jpg", "price": 1.5, "when": "2026-01-31T10:00:00+01:00"}\n'
    )

    read = read_table(table(tmp_path, text, "table.ndjson"))

    assert read.fields == {
        "price": FieldType.FLOAT,
        "tags": FieldType.STRINGS,
        "new": FieldType.BOOL,
        "when": FieldType.DATETIME,
        "place": FieldType.GEO,
    }
    assert not read.is_text


@pytest.mark.parametrize("column", ["file", "path", "Filename", "image", "id"])
def test_the_column_of_the_name_may_be_called_differently(
    tmp_path: Path, column: str
) -> None:
    read = read_table(table(tmp_path, f"price,{column}\n3,./a\\b.jpg\n"))

    assert read.rows == {"a/b.jpg": {"price": "3"}}


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    read = read_table(table(tmp_path, "\ufefffile,price\n1.jpg,3\n"))

    assert list(read.rows) == ["1.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "price\n3\n", "no column names the picture.*There is: price"),
        ("t.csv", "file,price\n1.jpg\n", "Line 2 has not as many cells"),
        ("t.csv", "file,price\n1.jpg,2,3\n", "Line 2 has not as many cells"),
        ("t.csv", "file\n1.jpg\n1.jpg\n", "Line 3: there are two rows for '1.jpg'"),
        ("t.csv", "file,my price\n1.jpg,2\n", "A field name is .*my price"),
        ("t.csv", "file,x\n1.jpg,2\n2.jpg,true\n", "several types: bool, int"),
        ("t.ndjson", '{"file": "1.jpg"}\n{oops\n', "Line 2 is not JSON"),
        ("t.ndjson", "[1]\n", "Line 1 is not a JSON object"),
        ("t.ndjson", '{"file": "1.jpg", "x": {}}\n', "'x'.*fits no type"),
        ("t.ndjson", '{"file": 7}\n', "no column names the picture"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_line(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    with pytest.raises(BadMetadata, match=said):
        read_table(table(tmp_path, text, name))


def test_a_table_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(b"file,name\n1.jpg,caf\xe9\n")

    with pytest.raises(BadMetadata, match=r"not CSV in UTF-8"):
        read_table(file)


def test_rows_and_pictures_without_the_other_are_named(tmp_path: Path) -> None:
    read = read_table(table(tmp_path, "file,x\na/1.jpg,1\n3.jpg,2\n4.jpg,3\n5.jpg,3\n"))
    pictures = [
        Picture(tmp_path / name, name)
        for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg", "d/4.jpg", "e/4.jpg")
    ]

    joined = join(read, pictures)

    # A bare name will do where only one picture is called so.
    assert joined.metadata == {"a/1.jpg": {"x": "1"}, "c/3.jpg": {"x": "2"}}
    assert list(joined.complaints()) == [
        "2 rows of the metadata file name no picture of the folder: 4.jpg, 5.jpg",
        "3 pictures have no row in the metadata file: b/2.jpg, d/4.jpg, e/4.jpg",
    ]

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import pictures
from api_site import Site, open_site, photo


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """A small file of a huge picture."""
    return pictures.png_bomb()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The API over nothing yet."""
    with open_site(tmp_path) as opened:
        yield opened


@pytest.fixture
def shelf(site: Site) -> Site:
    """A site with six images: three shoes, two bags and one without a category."""
    site.create()
    items: list[dict[str, object]] = [
        {"id": name, "metadata": {"category": category, "price": float(ord(ids[0]))}}
        for category, ids in {"shoes": "abc", "bags": "de"}.items()
        for name in ids
    ]
    items.append({"id": "folder/f.jpg"})
    answer = site.form([photo(name) for name in "abcdef"], items=json.dumps(items))
    assert answer.status_code == 202
    return site

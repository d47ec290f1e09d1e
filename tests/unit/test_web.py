from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from fakes import MemoryIndex
from lookalike.api import cards, create_app, overviews, web
from lookalike.backbones import Backbone
from lookalike.backends.ledger import SqlLedger
from lookalike.bootstrap import Backends
from lookalike.collections import Collection, CollectionUid, FieldType, Metadata
from lookalike.config import Settings
from lookalike.errors import IndexUnavailable, LedgerUnavailable
from lookalike.interfaces import Hit, ImageId, ImageState
from small import TEAM, Small, picture

SCRIPT = "<script>alert(1)</script>"
STATIC = Path(web.__file__).parent / "static"


class Elements(HTMLParser):
    """Every element of a page, with its attributes, and all of its text."""

    def __init__(self, response: TestResponse) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.found
            if name == tag and wanted.items() <= attributes.items()
        ]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def searches(self) -> list[str]:
        """Where the pictures of the grid lead to."""
        return [one["href"] for one in self.found_pictures]

    @property
    def found_pictures(self) -> list[dict[str, str]]:
        return self.all("a", **{"class": "picture"})


def backends_of(small: Small, folder: Path) -> Backends:
    backbone = Backbone(
        name="fake",
        version="1",
        geometry=small.embedder.geometry,
        dimension=small.embedder.dimension,
        fingerprint=small.embedder.fingerprint,
        directory=folder,
        model_path=folder,
        precision="fp32",
        variants={},
        manifest={},
    )
    return Backends(
        settings=Settings(data_dir=folder),
        backbone=backbone,
        ledger=small.ledger,
        blobs=small.blobs,
        embedder=small.embedder,
        index=small.index,
        queue=small.queue,
        index_images=lambda _: None,
    )


def client_of(backends: Backends) -> FlaskClient:
    return create_app(backends).test_client()


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small.build(tmp_path)


@pytest.fixture
def client(small: Small, tmp_path: Path) -> FlaskClient:
    return client_of(backends_of(small, tmp_path))


@pytest.fixture
def stocked(small: Small) -> Small:
    """Three shoes and two hats."""
    for category, seeds in {"shoes": (1, 2, 3), "hats": (4, 5)}.items():
        pictures = {f"{category}/{seed}.png": picture(seed) for seed in seeds}
        small.ingest(pictures, {"category": category, "price": 9.5})
    return small


def upload(client: FlaskClient, data: bytes, **form: str) -> TestResponse:
    boundary, body = encode_multipart(
        {"image": FileStorage(io.BytesIO(data), "query.png"), **form}
    )
    kind = f"multipart/form-data; boundary={boundary}"
    return client.post("/", data=body, content_type=kind)


# --- what there is -------------------------------------------------------------------


def test_an_empty_installation_says_how_to_bring_pictures(
    small: Small, client: FlaskClient
) -> None:
    small.ledger.delete_collection(small.collection)

    response = client.get("/")

    assert response.status_code == 200
    assert "No pictures yet" in response.text
    assert "lookalike ingest DIR" in response.text
    assert "http://localhost/v1/collections" in response.text


def test_an_empty_collection_says_how_to_fill_it(client: FlaskClient) -> None:
    response = client.get("/?collection=things")

    assert "things is empty" in response.text
    assert "curl http://localhost/v1/collections/things/images" in response.text


def test_the_start_page_offers_pictures_to_start_from(
    stocked: Small, client: FlaskClient
) -> None:
    page = Elements(client.get("/"))

    assert len(page.searches) == 5
    assert all(client.get(address).status_code == 200 for address in page.searches)
    assert "of 5 in things" in page.text


def test_images_on_their_way_in_are_counted(
    stocked: Small, client: FlaskClient
) -> None:
    stocked.ingest({"late.png": picture(9)}, work=False)

    page = Elements(client.get("/"))

    assert "5 of 6 can be found" in page.text
    assert page.all("progress", max="6", value="5")


def test_several_collections_are_offered_with_their_counts(
    stocked: Small, client: FlaskClient
) -> None:
    add_collection(stocked, "others")

    page = Elements(client.get("/"))

    offered = page.all("button", name="collection")
    assert [one["value"] for one in offered] == ["others", "things"]
    assert [one["aria-pressed"] for one in offered] == ["false", "true"]
    assert "things 5" in page.text


def test_the_categories_of_a_collection_are_offered(
    stocked: Small, client: FlaskClient
) -> None:
    page = Elements(client.get("/"))

    offered = [one["value"] for one in page.all("button", name="category")]
    assert offered == ["", "hats", "shoes"]


# --- searching -----------------------------------------------------------------------


def test_an_uploaded_picture_finds_itself_and_stays_in_sight(
    stocked: Small, client: FlaskClient
) -> None:
    response = upload(client, picture(2))

    page = Elements(response)
    assert response.status_code == 200
    assert page.searches[0].endswith("id=shoes%2F2.png")
    assert "1.000" in page.text
    assert re.search(r"5 lookalikes in \d+ ms", page.text)
    (query,) = page.all("img", **{"class": "query"})
    assert re.match(r"data:image/(webp|jpeg);base64,", query["src"])


def test_a_category_holds_for_an_uploaded_picture(
    stocked: Small, client: FlaskClient
) -> None:
    page = Elements(upload(client, picture(2), category="hats"))

    assert len(page.searches) == 2
    assert all("id=hats" in address for address in page.searches)
    assert page.all("button", value="hats", **{"aria-pressed": "true"})


def test_the_last_value_of_a_field_counts_as_the_button_pressed(
    stocked: Small, client: FlaskClient
) -> None:
    form = {
        "image": (io.BytesIO(picture(2)), "query.png"),
        "category": ["hats", "shoes"],
    }

    page = Elements(client.post("/", data=form))

    assert len(page.searches) == 3


def test_a_stored_image_is_searched_from_its_address(
    stocked: Small, client: FlaskClient
) -> None:
    response = client.get("/?collection=things&id=shoes/1.png&category=shoes")

    page = Elements(response)
    assert response.status_code == 200
    assert len(page.searches) == 2
    assert not any("shoes%2F1.png" in address for address in page.searches)
    assert page.all("input", name="id", value="shoes/1.png")


def test_a_form_without_a_picture_leads_to_an_address(
    stocked: Small, client: FlaskClient
) -> None:
    form = {"collection": "things", "id": "shoes/1.png", "category": "hats"}

    response = client.post("/", data=form)

    assert response.status_code == 303
    assert response.location == "/?collection=things&id=shoes%2F1.png&category=hats"


def test_another_collection_drops_what_was_picked_in_the_last(
    stocked: Small, client: FlaskClient
) -> None:
    add_collection(stocked, "others")
    form = {"collection": ["things", "others"], "id": "x", "category": "hats"}

    response = client.post("/", data=form)

    assert response.location == "/?collection=others"


def test_a_filter_that_nothing_satisfies_is_said_and_can_be_taken_away(
    stocked: Small, client: FlaskClient
) -> None:
    page = Elements(client.get("/?id=shoes/1.png&category=gloves"))

    assert "No lookalikes" in page.text
    assert "Nothing in things matches this choice" in page.text
    assert page.all("button", value="gloves", **{"aria-pressed": "true"})


def test_more_can_be_shown(small: Small, client: FlaskClient) -> None:
    small.ingest({f"{seed}.png": picture(seed) for seed in range(30)})

    first = Elements(client.get("/?id=0.png"))
    more = Elements(client.get("/?id=0.png&limit=48"))

    assert len(first.searches) == 24
    assert first.all("button", name="limit", value="48")
    assert len(more.searches) == 29
    assert not more.all("button", name="limit")


# --- hostile text --------------------------------------------------------------------

ODD_IDS = ["a b", "ordner/Grün é.png", "100%", "a#b?c&d=e", "'\"<b>", "+", "..x", "%2F"]


@pytest.mark.parametrize("image_id", ODD_IDS)
def test_every_address_of_an_odd_id_works(
    small: Small, client: FlaskClient, image_id: str
) -> None:
    small.ingest({image_id: picture(1), "other": picture(2)})

    page = Elements(client.get("/?id=other"))

    (search,) = page.searches
    thumbnails = [one["src"] for one in page.all("img") if "thumbnail" in one["src"]]
    originals = [one["href"] for one in page.all("a") if "/original" in one["href"]]
    for address in (search, *thumbnails, *originals):
        assert client.get(address).status_code == 200, address
    found = Elements(client.get(search))
    assert found.all("input", name="id", value=image_id)


def test_ids_and_metadata_are_text_and_nothing_else(
    small: Small, client: FlaskClient
) -> None:
    small.ingest({f"a{SCRIPT}": picture(1)}, {"category": f'"{SCRIPT}'})
    small.ingest({f"b'{SCRIPT}": picture(2)}, {"category": f"'{SCRIPT}"})

    pages = [
        Elements(client.get("/")),
        Elements(client.get("/", query_string={"id": f"a{SCRIPT}"})),
        Elements(client.get("/", query_string={"category": SCRIPT})),
        Elements(client.get("/", query_string={"collection": SCRIPT})),
        Elements(client.get("/", query_string={"id": SCRIPT})),
        Elements(upload(client, picture(1), category=SCRIPT)),
    ]

    for page in pages:
        assert [one["src"] for one in page.all("script")] == ["/assets/page.js"]


def test_the_page_carries_no_code_or_style_of_its_own(
    stocked: Small, client: FlaskClient
) -> None:
    response = client.get("/?id=shoes/1.png")

    page = Elements(response)
    assert not page.all("style")
    assert not [
        name
        for _, attributes in page.found
        for name in attributes
        if name == "style" or name.startswith("on")
    ]
    policy = response.headers["Content-Security-Policy"]
    assert policy == (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; "
        "script-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_is_loaded_from_another_host(
    stocked: Small, client: FlaskClient
) -> None:
    addresses = ["/", "/assets/page.css", "/assets/page.js", "/assets/icon.svg"]

    for address in addresses:
        part = client.get(address)
        assert part.status_code == 200
        hosts = set(re.findall(r"\w+://[^\s\"'/]+", part.text))
        assert hosts <= {"http://www.w3.org"}  # the name of SVG, not an address
        part.close()


def test_the_script_stays_small() -> None:
    lines = (STATIC / "page.js").read_text().splitlines()

    assert len(lines) <= 150


# --- what goes wrong -----------------------------------------------------------------


def test_what_is_no_picture_is_refused_kindly(
    stocked: Small, client: FlaskClient
) -> None:
    response = upload(client, b"no picture at all, only words")

    page = Elements(response)
    assert response.status_code == 422
    assert "That is not a picture we can read" in page.text
    assert page.all("input", type="file")
    assert page.searches


def test_an_empty_file_is_refused_kindly(stocked: Small, client: FlaskClient) -> None:
    response = upload(client, b"")

    assert response.status_code == 422
    assert "That file is empty" in response.text


@pytest.mark.parametrize("size", [5_000, 3_000_000])
def test_a_picture_over_the_limit_is_refused_kindly(
    stocked: Small, tmp_path: Path, size: int
) -> None:
    settings = Settings(data_dir=tmp_path, max_image_bytes=2048)
    client = client_of(replace(backends_of(stocked, tmp_path), settings=settings))

    response = upload(client, picture(1) + bytes(size))

    assert response.status_code in (413, 422)
    assert "That picture is too large" in response.text


@pytest.mark.parametrize("image_id", ["gone", "a\0b", "/", "a//b", "x" * 600])
def test_an_id_that_is_not_there_is_said(
    stocked: Small, client: FlaskClient, image_id: str
) -> None:
    response = client.get("/", query_string={"id": image_id})

    assert 400 <= response.status_code < 500
    assert Elements(response).all("div", id="notice")


def test_a_collection_that_is_not_there_is_said(
    stocked: Small, client: FlaskClient
) -> None:
    response = client.get("/?collection=nope&category=x&id=y")

    page = Elements(response)
    assert response.status_code == 404
    assert "There is no collection 'nope'." in page.text
    assert len(page.searches) == 5


@pytest.mark.parametrize("limit", ["0", "-1", "999999", "x", "٣", "1e3"])
def test_an_odd_limit_is_brought_into_range(
    stocked: Small, client: FlaskClient, limit: str
) -> None:
    response = client.get("/", query_string={"id": "shoes/1.png", "limit": limit})

    assert response.status_code == 200


class DownIndex(MemoryIndex):
    """Does not answer searches."""

    def search(self, *_: object, **__: object) -> list[Hit]:
        raise IndexUnavailable("nobody at 10.0.0.7:19530")


class DownLedger(SqlLedger):
    """Does not answer at all."""

    def collections(self, *_: object) -> list[Collection]:
        raise LedgerUnavailable("nobody at 10.0.0.8:5432")


class BrokenLedger(SqlLedger):
    """Has a defect."""

    def collections(self, *_: object) -> list[Collection]:
        raise ZeroDivisionError("secret")


def test_a_search_that_is_down_keeps_the_picture_and_names_no_host(
    stocked: Small, tmp_path: Path
) -> None:
    client = client_of(replace(backends_of(stocked, tmp_path), index=DownIndex()))

    response = upload(client, picture(1))

    page = Elements(response)
    assert response.status_code == 503
    assert "cannot search right now" in page.text
    assert page.all("img", **{"class": "query"})
    assert "10.0.0.7" not in page.text


@pytest.mark.parametrize(("ledger", "status"), [(DownLedger, 503), (BrokenLedger, 500)])
def test_without_a_ledger_there_is_still_a_page(
    small: Small, tmp_path: Path, ledger: type[SqlLedger], status: int
) -> None:
    down = ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    client = client_of(replace(backends_of(small, tmp_path), ledger=down))

    response = client.get("/")

    assert response.status_code == status
    assert response.mimetype == "text/html"
    assert "Content-Security-Policy" in response.headers
    assert Elements(response).all("div", id="notice")
    assert "secret" not in response.text
    down.close()


# --- what a collection holds ---------------------------------------------------------


def test_an_overview_is_remembered_until_the_counts_change(stocked: Small) -> None:
    known = overviews.Overviews()
    counts = stocked.ledger.image_counts(stocked.collection)
    before = known.of(stocked.ledger, stocked.collection, counts)

    again = known.of(stocked.ledger, stocked.collection, dict(counts))
    changed = {**counts, ImageState.PENDING: 1}
    after = known.of(stocked.ledger, stocked.collection, changed)

    assert again is before
    assert after is not before


def test_a_field_of_many_values_is_not_offered_unless_it_is_the_category(
    small: Small,
) -> None:
    for seed in range(overviews.MAX_VALUES + 1):
        small.ingest({f"{seed}.png": picture(seed)}, {"category": f"kind {seed:02}"})
    as_brand = replace(small.collection, fields={"brand": FieldType.STRING})

    main = overviews.look(small.ledger, small.collection)
    other = overviews.look(small.ledger, as_brand)

    assert len(main.values["category"]) == overviews.MAX_VALUES + 1
    assert not other.values


def test_a_sample_is_spread_from_first_to_last() -> None:
    assert overviews.spread(list(range(100)), 4) == [0, 25, 50, 75]
    assert overviews.spread([1, 2], 4) == [1, 2]


def test_metadata_reads_as_one_line_with_the_category_first(small: Small) -> None:
    fields = {
        "price": FieldType.FLOAT,
        "in_stock": FieldType.BOOL,
        "tags": FieldType.STRINGS,
        "made": FieldType.DATETIME,
        "place": FieldType.GEO,
        "category": FieldType.STRING,
    }
    metadata: Metadata = {
        "price": 1234.5,
        "in_stock": False,
        "tags": ["a", "b"],
        "made": "2026-01-31T12:00:00.000000Z",
        "place": {"lat": 52.520008, "lon": 13.4},
        "category": "shoes",
    }
    small.ingest({"x": picture(1)})
    image = small.ledger.image(small.collection, ImageId("x"))

    words = cards.describe(replace(image, metadata=metadata), fields)

    assert words == (
        "shoes · price 1,234.5 · not in stock · a, b · 2026-01-31 · place 52.52, 13.4"
    )


def add_collection(small: Small, name: str) -> None:
    other = replace(small.collection, uid=CollectionUid("f" * 32), name=name)
    small.ledger.create_collection(other)
    small.index.create(other)
    assert [one.name for one in small.ledger.collections(TEAM)] == [name, "things"]

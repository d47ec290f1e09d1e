from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from werkzeug.wrappers import Response

from api_site import Site, open_site
from lookalike.cli import main
from lookalike.cli.ingest import Source, ingest_folder
from lookalike.cli.waiting import Waiting
from lookalike.client import Client
from lookalike.collections import DEFAULT_TEAM
from lookalike.errors import Overloaded
from pictures import jpeg
from served import served


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def url(shop: Site) -> Iterator[str]:
    with served(shop) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of shoes and two of bags."""
    made = tmp_path / "pictures"
    for number, name in enumerate("abcd"):
        write(made / "shoes" / f"{name}.jpg", number)
    for number, name in enumerate("ef"):
        write(made / "bags" / f"{name}.jpg", 10 + number)
    return made


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(seed, 64, 48))


def ingest(url: str, folder: Path, *options: str) -> Result:
    arguments = ["ingest", str(folder), "-c", "shop", "--url", url, *options]
    return CliRunner().invoke(main, arguments)


def test_a_folder_is_ingested_with_its_folders_as_categories(
    shop: Site, url: str, folder: Path
) -> None:
    result = ingest(url, folder, "--category-from-folder")

    assert result.exit_code == 0, result.output
    assert "6 images: 6 done, 0 unchanged, 0 failed" in result.stdout
    with Client(url) as client:
        found = {str(image.id): image.metadata for image in client.images("shop")}
    assert found["shoes/a.jpg"] == {"category": "shoes"}
    assert found["bags/e.jpg"] == {"category": "bags"}
    assert len(found) == 6


def test_a_second_run_sends_nothing(shop: Site, url: str, folder: Path) -> None:
    ingest(url, folder, "--category-from-folder")
    embedded, before = shop.embedder.embedded, shop.state()

    result = ingest(url, folder, "--category-from-folder")

    assert result.exit_code == 0
    assert "0 done, 6 unchanged" in result.stdout
    assert shop.embedder.embedded == embedded
    assert shop.state() == before


def test_what_changed_and_what_is_new_is_sent(
    shop: Site, url: str, folder: Path
) -> None:
    ingest(url, folder, "--category-from-folder")
    write(folder / "shoes" / "a.jpg", 77)
    write(folder / "shoes" / "g.jpg", 78)

    result = ingest(url, folder, "--category-from-folder")

    assert "7 images: 2 done, 5 unchanged" in result.stdout


def test_changed_metadata_are_sent_although_the_picture_is_the_same(
    shop: Site, url: str, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,since\nshoes/a.jpg,2026-01-31\nshoes/b.jpg,2026-01-31\n")
    ingest(url, folder, "--metadata", str(table))
    table.write_text("file,since\nshoes/a.jpg,2026-01-31\nshoes/b.jpg,2026-02-01\n")

    result = ingest(url, folder, "--metadata", str(table))

    assert "1 done, 5 unchanged" in result.stdout
    with Client(url) as client:
        metadata = {str(image.id): image.metadata for image in client.images("shop")}
    assert metadata["shoes/b.jpg"] == {"since": "2026-02-01T00:00:00.000000Z"}


def test_bad_files_fail_alone_and_are_listed(
    shop: Site, url: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "shoes" / "broken.jpg").write_bytes(jpeg(5)[:500])
    (folder / "shoes" / "text.jpg").write_text("[bold]no picture")
    (folder / "shoes" / "gone.jpg").symlink_to(folder / "nowhere")
    listed = tmp_path / "failures.ndjson"

    result = ingest(url, folder, "--failures", str(listed))

    failures = [json.loads(line) for line in listed.read_text().splitlines()]
    assert result.exit_code == 1
    assert "9 images: 6 done, 0 unchanged, 3 failed" in result.stdout
    assert "shoes/broken.jpg" in result.stdout
    assert {one["file"]: one["code"] for one in failures} == {
        "shoes/broken.jpg": "image_truncated",
        "shoes/text.jpg": "image_unsupported",
        "shoes/gone.jpg": "file_unreadable",
    }


def test_a_folder_of_bad_files_only_is_reported_file_by_file(
    shop: Site, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(25):
        (folder / f"{number:02}.jpg").write_text("no picture")

    result = ingest(url, folder)

    assert result.exit_code == 1
    assert "25 failed" in result.stdout
    assert "19.jpg" in result.stdout
    assert "20.jpg" not in result.stdout
    assert "5 more" in result.stdout


def test_more_files_than_a_request_holds_are_sent_in_parts(
    shop: Site, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    for number in range(45):  # the site takes 20 at once
        write(folder / f"{number:02}.jpg", number)

    result = ingest(url, folder)

    assert result.exit_code == 0, result.output
    assert "45 images: 45 done" in result.stdout


def test_a_file_over_the_limit_fails_with_the_reason_of_the_server(
    shop: Site, url: str, folder: Path
) -> None:
    large = jpeg(1) + b"\0" * shop.parts.settings.max_request_bytes
    (folder / "shoes" / "large.jpg").write_bytes(large)

    result = ingest(url, folder)

    assert result.exit_code == 1
    assert "6 done" in result.stdout
    assert "too_large" in result.stdout


def test_a_name_that_is_not_utf_8_fails_alone(
    shop: Site, url: str, folder: Path
) -> None:
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(3))

    result = ingest(url, folder)

    assert result.exit_code == 1
    assert "6 done" in result.stdout
    assert "id_invalid" in result.stdout


def test_rows_without_a_file_are_named(
    shop: Site, url: str, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.ndjson"
    table.write_text('{"file": "shoes/z.jpg", "price": 3}\n')

    result = ingest(url, folder, "--metadata", str(table))

    assert result.exit_code == 0
    assert "1 row of the metadata file name no picture" in result.stderr
    assert "6 pictures have no row" in result.stderr


def test_the_table_itself_is_no_picture(shop: Site, url: str, folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("file,price\nshoes/a.jpg,3\n")

    result = ingest(url, folder, "--metadata", str(table), "--all-files")

    assert "6 images: 6 done" in result.stdout


def test_a_collection_that_was_declared_otherwise_is_not_written_to(
    shop: Site, url: str, folder: Path, tmp_path: Path
) -> None:
    with Client(url) as client:
        client.create_collection("shop", {})
    before = shop.state()

    result = ingest(url, folder, "--category-from-folder")

    assert result.exit_code == 2
    assert "Collection 'shop' exists and was declared otherwise" in result.stderr
    assert shop.state() == before


def test_no_server_is_one_clear_line(folder: Path) -> None:
    # Without patience, so that the test does not wait for a server to come.
    result = CliRunner().invoke(
        main, ["search", str(folder / "shoes/a.jpg"), "--url", "http://127.0.0.1:1"]
    )

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: No server answers at http://127.0.0.1:1")
    assert result.stderr.count("\n") == 1


def test_a_bad_collection_name_is_refused_before_anything_is_sent(
    shop: Site, url: str, folder: Path
) -> None:
    result = CliRunner().invoke(
        main, ["ingest", str(folder), "-c", "My Shop", "--url", url]
    )

    assert result.exit_code == 2
    assert "A collection name is" in result.stderr


def test_an_empty_folder_ends_well(shop: Site, url: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    result = ingest(url, empty)

    assert result.exit_code == 0
    assert "0 images: 0 done" in result.stdout


def test_a_server_at_its_limit_is_waited_for(
    shop: Site, url: str, folder: Path
) -> None:
    shop.create()
    shop.queue.is_held = True
    shop.ingest({"before": jpeg(99, 64, 48)})
    shop.limit(max_pending_images=1)
    said = io.StringIO()
    console = Console(file=said, width=200)

    def work(seconds: float) -> None:
        shop.queue.is_held = False
        shop.parts.ledger.recover()
        shop.queue.ring(shop.parts.ledger.due(100))

    waiting = Waiting(console)
    with Client(url, busy_patience=60, waiting=waiting, sleep=work) as client:
        report = ingest_folder(client, "things", Source(folder), console)

    assert (report.done, report.failures) == (6, [])
    assert "Waiting: As many images wait to be indexed as may: 1." in said.getvalue()


class LosingAnswers:
    """A proxy that loses the first answer to an upload."""

    def __init__(self, site: Site) -> None:
        self.lost = 0
        self._app = site.app.wsgi_app
        site.app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: Any, start_response: Any) -> Any:
        answer = Response.from_app(self._app, environ)
        if environ["REQUEST_METHOD"] == "POST" and answer.status_code == 202:
            self.lost += 1
            if self.lost == 1:
                answer = Response("The upstream server timed out.", 504)
        return answer(environ, start_response)


def test_an_upload_whose_answer_was_lost_is_counted_once(
    shop: Site, url: str, folder: Path
) -> None:
    proxy = LosingAnswers(shop)

    result = ingest(url, folder)

    assert result.exit_code == 0, result.output
    assert proxy.lost == 2
    assert "6 images: 6 done, 0 unchanged, 0 failed" in result.stdout
    (job,) = shop.parts.ledger.jobs(DEFAULT_TEAM, None, 10)
    assert (job.total, job.done) == (6, 6)


def test_a_wait_is_said_now_and_then_only() -> None:
    said = io.StringIO()
    times = iter([0.0, 1.0, 29.9, 30.0])
    waiting = Waiting(Console(file=said), clock=lambda: next(times))

    for seconds in (0.3, 5, 5, 5, 5):  # what is over in a moment is not said at all
        waiting(Overloaded("Too [much]."), seconds)

    assert said.getvalue() == "Waiting: Too [much].\n" * 2


def test_a_collection_deleted_meanwhile_ends_the_run(
    shop: Site, url: str, folder: Path
) -> None:
    shop.queue.is_held = True  # everything is accepted, nothing is worked on
    watching = threading.Thread(target=delete_when_full, args=(url, 6))
    watching.start()

    result = ingest(url, folder)

    watching.join()
    assert "6 images: 0 done, 0 unchanged, 0 failed, 6 superseded" in result.stdout


def delete_when_full(url: str, count: int) -> None:
    wait_until_full(url, count)
    httpx.delete(f"{url}/v1/collections/shop", trust_env=False)


def wait_until_full(url: str, count: int) -> None:
    deadline = time.monotonic() + 30
    with Client(url) as client:
        while time.monotonic() < deadline:
            names = [found.name for found in client.collections()]
            if names and sum(client.collection("shop").counts.values()) == count:
                return
    raise AssertionError(f"there were never {count} images")


def test_an_interrupted_run_says_how_to_go_on(
    shop: Site, url: str, folder: Path
) -> None:
    shop.queue.is_held = True
    command = [sys.executable, "-m", "lookalike", "ingest", str(folder)]
    process = subprocess.Popen(
        [*command, "-c", "shop", "--url", url], stderr=subprocess.PIPE, text=True
    )
    wait_until_full(url, 6)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Run the same command again to resume" in said
    assert "Traceback" not in said

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from api_site import Site, open_site, photo
from lookalike import backbones
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.cli import checks, doctor, main, remote
from lookalike.cli.checks import Check, Verdict
from lookalike.config import Settings
from served import served
from servers.redis import free_port


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path / "data") as site:
        site.create()
        site.ingest({"a": photo("a")})
        yield site


@pytest.fixture
def url(shop: Site) -> Iterator[str]:
    with served(shop) as address:
        yield address


def by_name(found: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_this_machine_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_DATA_DIR", str(tmp_path / "new"))

    found = by_name(checks.here())

    failed = [check for check in found.values() if check.verdict is Verdict.FAIL]
    assert failed == []
    assert "digest right" in found["backbone"].found
    assert "for one picture" in found["inference"].found
    assert "WAL" in found["sqlite"].found
    assert "made on first use" in found["data folder"].found
    assert not (tmp_path / "new").exists()


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_PORT", "many")

    found = by_name(checks.here())

    assert found["settings"].verdict is Verdict.FAIL
    assert "LOOKALIKE_PORT" in found["settings"].advice


def test_a_backbone_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "backbone": "resnet19"})

    (found,) = checks.backbone(settings)

    assert found.verdict is Verdict.FAIL
    assert "resnet19" in found.advice


def test_a_network_that_does_not_load_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    broken = dataclasses.replace(
        backbones.find("resnet18"), model_path=tmp_path / "model.onnx"
    )

    found = checks.inference(OnnxEmbedder(broken, threads=1))

    assert found.verdict is Verdict.FAIL
    assert "cannot load" in found.advice


def test_a_processor_without_int8_instructions_is_worth_a_word(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("flags : fpu avx2\n")
    (tmp_path / "new").write_text("flags : fpu avx512_vnni\n")

    assert checks.cpu(tmp_path / "old").verdict is Verdict.WARN
    assert checks.cpu(tmp_path / "new").verdict is Verdict.OK
    assert checks.cpu(tmp_path / "none").verdict is Verdict.OK


def test_a_data_folder_that_cannot_be_written_to_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    found = checks.data_folder(tmp_path / "file" / "data")

    assert found.verdict is Verdict.FAIL
    assert "--data-dir" in found.advice


def test_a_package_that_is_not_installed_is_named() -> None:
    found = checks.packages(("flask", "no-such-package-of-anyone"))

    assert found.verdict is Verdict.FAIL
    assert "Not installed: no-such-package-of-anyone" in found.advice


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [
        ("redis_url", "redis://:secret@127.0.0.1:1/0", "redis"),
        ("milvus_uri", "http://127.0.0.1:1", "milvus"),
        ("database_url", "postgresql+psycopg://me:secret@127.0.0.1:1/x", "database"),
    ],
)
def test_a_server_that_does_not_answer_names_its_setting(
    tmp_path: Path, setting: str, value: str, name: str
) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, setting: value})

    (found,) = checks.servers(settings)

    assert (found.name, found.verdict) == (name, Verdict.FAIL)
    assert f"LOOKALIKE_{setting.upper()}" in found.advice
    assert "secret" not in found.found


def test_a_server_tells_of_its_parts_and_collections(url: str) -> None:
    found = by_name(remote.server_checks(url))

    assert found["server"].found == url
    assert found["server embedder"].verdict is Verdict.OK
    assert found["collection things"].found == "1 indexed, 0 pending, 0 failed"
    assert found["size"].found == "1 images in all"


def test_no_server_is_a_failure_only_if_one_was_named() -> None:
    (found,) = remote.server_checks("http://127.0.0.1:1")

    assert found.verdict is Verdict.FAIL
    assert "No server answers" in found.advice


def test_too_many_images_for_the_embedded_index_name_the_way_on() -> None:
    assert remote.size_check(100_000).verdict is Verdict.OK
    assert remote.size_check(100_001).verdict is Verdict.WARN
    assert "LOOKALIKE_MILVUS_URI" in remote.size_check(100_001).advice


def test_triton_is_asked_for_a_picture_if_it_is_what_embeds(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"data_dir": tmp_path, "triton_url": f"127.0.0.1:{free_port()}"}
    )

    found = by_name(checks.backbone(settings))["inference"]

    assert found.verdict is Verdict.FAIL
    assert found.found == "embedder_unavailable"
    assert f"Triton at {settings.triton_url} cannot be reached" in found.advice


def test_the_table_says_what_to_do() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)

    doctor.show(console, [Check("disk", Verdict.WARN, "full [red]", "Make room.")])

    assert out.getvalue() == "warn  disk  full [red]\ndisk: Make room.\n"


def test_the_command_ends_with_status_1_if_something_does_not_work(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(
        main,
        ["doctor", "--url", "http://127.0.0.1:1"],
        env={"LOOKALIKE_DATA_DIR": str(tmp_path)},
    )

    assert result.exit_code == 1
    assert "1 not working" in result.stdout


def test_the_command_ends_well_with_a_server_that_is_well(
    url: str, tmp_path: Path
) -> None:
    env = {"LOOKALIKE_DATA_DIR": str(tmp_path), "LOOKALIKE_URL": url}

    result = CliRunner().invoke(main, ["doctor"], env=env)

    assert result.exit_code == 0, result.output
    assert backbones.find("resnet18").name in result.stdout

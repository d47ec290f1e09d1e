"""What ``docker-compose.yml`` promises, and that Compose itself accepts it."""

from __future__ import annotations

import ast
import ipaddress
import re
from collections.abc import Collection
from itertools import chain
from typing import Any

import pytest
import yaml

import compose_file
from compose_file import Service
from lookalike.cli import COMMANDS
from lookalike.config import Settings
from servers.compose import Refused, compose_command, configuration

SERVICES = compose_file.services()
SECRETS = compose_file.secrets()
PROFILES: list[tuple[str, ...]] = [(), ("gpu",), ("cpu",)]
OURS = ("api", "worker")
TRITON = ("triton-cpu", "triton-gpu", "plan")
ONE_SHOTS = {"plan"}
SETTINGS = {f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields}


def each(*, without: Collection[str] = ()) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(set(SERVICES) - set(without)))


def environment(service: Service) -> dict[str, str]:
    found: dict[str, str] = service.get("environment", {})
    return found


@pytest.fixture
def compose() -> None:
    if compose_command() is None:
        pytest.skip("there is no Docker Compose: run `make servers`")


# --- by Compose itself ---------------------------------------------------------------


@pytest.mark.usefixtures("compose")
@pytest.mark.parametrize("profiles", PROFILES, ids=lambda names: "-".join(names) or "-")
def test_compose_accepts_the_file(profiles: tuple[str, ...]) -> None:
    found = configuration(compose_file.FILE, SECRETS, profiles)

    chosen = {
        name
        for name, service in SERVICES.items()
        if set(service.get("profiles", profiles)) <= set(profiles)
    }
    assert set(found["services"]) == chosen


@pytest.mark.usefixtures("compose")
@pytest.mark.parametrize("secret", sorted(SECRETS))
@pytest.mark.parametrize("value", [None, ""])
def test_compose_refuses_a_missing_secret_by_name(
    secret: str, value: str | None
) -> None:
    env = {name: text for name, text in SECRETS.items() if name != secret}
    if value is not None:
        env[secret] = value

    with pytest.raises(Refused, match=f'required variable {secret} is missing.*"?.env'):
        configuration(compose_file.FILE, env)


@pytest.mark.usefixtures("compose")
def test_the_tests_read_the_file_as_compose_does() -> None:
    profiles = ("gpu", "cpu")

    understood = configuration(compose_file.FILE, SECRETS, profiles)["services"]

    for name, service in SERVICES.items():
        ours = compose_file.filled(service, SECRETS)
        theirs = understood[name]
        # Compose prints back a dollar as two.
        assert [str(word) for word in ours.get("command", [])] == [
            word.replace("$$", "$") for word in theirs.get("command") or []
        ]
        assert environment(ours) == {
            key: value.replace("$$", "$")
            for key, value in (theirs.get("environment") or {}).items()
        }


# --- secrets -------------------------------------------------------------------------


def test_every_secret_is_required_wherever_it_is_used() -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")

    used = [
        match
        for match in compose_file.references(compose_file.raw())
        if secret.search(match["name"])
    ]

    assert used
    assert {match["how"] for match in used} == {":?"}
    assert all(".env.example" in match["word"] for match in used)


def test_nothing_that_is_called_a_secret_has_a_value_of_its_own() -> None:
    for service in SERVICES.values():
        for name, value in environment(service).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|_URL$", name) and ":" in str(value):
                assert "@" not in str(value) or "${" in str(value)
            if re.search(r"PASSWORD|SECRET", name):
                assert str(value).startswith("${")


def test_the_example_names_every_variable_and_no_other() -> None:
    used = {match["name"] for match in compose_file.references(compose_file.raw())}

    assert set(compose_file.example()) == used | {"COMPOSE_PROFILES"}


def test_the_example_holds_no_secret_and_shows_the_real_defaults() -> None:
    example = compose_file.example()

    assert {name: example[name] for name in SECRETS} == dict.fromkeys(
        SECRETS, ("", False)
    )
    for match in compose_file.references(compose_file.raw()):
        if match["name"] not in SECRETS:
            assert example[match["name"]] == (match["word"], True)


# --- what others can reach -----------------------------------------------------------


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}

    assert set(published) == {"api"}
    (port,) = compose_file.filled(published["api"], {})
    address, outside, inside = port.rsplit(":", 2)
    assert ipaddress.ip_address(address).is_loopback
    assert outside == inside == environment(SERVICES["api"])["LOOKALIKE_PORT"]


def test_only_the_api_is_in_a_network_with_a_way_out() -> None:
    networks = compose_file.raw()["networks"]
    open_ones = {name for name, n in networks.items() if not (n or {}).get("internal")}

    assert open_ones == {"edge"}
    for name, service in SERVICES.items():
        joined = set(service["networks"])  # without any, a service joins an open one
        assert (name == "api") == bool(joined & open_ones)


def test_only_milvus_reaches_its_stores() -> None:
    inside = {name for name, s in SERVICES.items() if "vectors" in s["networks"]}

    assert inside == {"milvus", "etcd", "minio"}
    assert SERVICES["etcd"]["networks"] == SERVICES["minio"]["networks"] == ["vectors"]


def test_milvus_asks_for_a_password() -> None:
    given = environment(SERVICES["milvus"])

    assert given["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    assert "MILVUS_ROOT_PASSWORD" in given["COMMON_SECURITY_DEFAULTROOTPASSWORD"]


# --- every container -----------------------------------------------------------------


@each(without=ONE_SHOTS)
def test_every_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@each()
def test_every_service_has_limits(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]

    assert set(limits) == {"cpus", "memory", "pids"}


@each()
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["init"] is True
    assert service["logging"]["options"]["max-size"]
    assert service["read_only"] is True or name == "milvus"


@each(without=ONE_SHOTS)
def test_every_service_comes_back_by_itself(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"


@each(without={"milvus", "etcd", "minio"})
def test_every_service_runs_as_an_ordinary_user(name: str) -> None:
    user = str(SERVICES[name]["user"])

    assert user.split(":")[0] not in {"0", "root", ""}


@each()
def test_every_image_is_pinned_by_its_version(name: str) -> None:
    image = compose_file.filled(SERVICES[name]["image"], {})

    repository, _, tag = image.rpartition(":")
    assert repository
    assert "/" not in tag
    assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}T", tag)
    assert "latest" not in image


@each()
def test_every_dependency_is_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = (
            "service_completed_successfully"
            if other in ONE_SHOTS
            else "service_healthy"
        )
        assert how["condition"] == wanted
        # A service whose profile is off is not there to be waited for.
        own = set(SERVICES[name].get("profiles", []))
        theirs = set(SERVICES[other].get("profiles", []))
        assert how.get("required", True) == (not theirs or theirs <= own)


def test_every_volume_is_used_and_named() -> None:
    mounts = chain.from_iterable(s.get("volumes", []) for s in SERVICES.values())
    sources = {mount.split(":")[0] for mount in mounts}

    named = {source for source in sources if not source.startswith(".")}
    assert named == set(compose_file.raw()["volumes"])
    for source in sources - named:
        assert (compose_file.ROOT / source).is_file()


# --- our own processes ---------------------------------------------------------------


@each()
def test_every_setting_is_a_real_one(name: str) -> None:
    given = {key for key in environment(SERVICES[name]) if key.startswith("LOOKALIKE_")}

    assert given <= SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_our_settings_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = compose_file.filled(environment(SERVICES[name]), SECRETS)
    for key, value in filled.items():
        monkeypatch.setenv(key, str(value))

    settings = Settings()

    hosts = [
        settings.ledger_url.rpartition("@")[2].split(":")[0],
        settings.redis_url.get_secret_value().rpartition("@")[2].split(":")[0],
        settings.milvus_uri.removeprefix("http://").split(":")[0],
    ]
    assert set(hosts) < set(SERVICES)
    assert settings.triton_url.split(":")[0] in _aliases()
    assert not settings.is_embedded_queue
    assert not settings.is_embedded_index
    assert not settings.is_embedded_ledger


def _aliases() -> set[str]:
    found = set()
    for service in SERVICES.values():
        networks = service["networks"]
        if isinstance(networks, dict):
            for joined in networks.values():
                found.update((joined or {}).get("aliases", []))
    return found


@pytest.mark.parametrize("name", OURS)
def test_our_commands_exist(name: str) -> None:
    words = SERVICES[name]["command"]

    assert words[0] in COMMANDS
    assert _dockerfile("ENTRYPOINT") == [["lookalike"]]


@pytest.mark.parametrize("name", TRITON)
def test_the_commands_of_triton_exist(name: str) -> None:
    command, *modes = SERVICES[name]["command"]
    text = (compose_file.ROOT / "infra/triton/Dockerfile").read_text()
    copied = re.findall(r"^COPY --chmod=0755 (\S+) /usr/local/bin/(\S+)$", text, re.M)
    sources = {target: compose_file.ROOT / source for source, target in copied}

    assert sources[command].is_file()
    assert sources["ready"].is_file()
    script = sources["start"].read_text()
    assert all(re.search(rf"^{mode}\)", script, re.M) for mode in modes)


def test_the_entry_point_of_redis_is_a_program_of_ours() -> None:
    (inside,) = SERVICES["redis"]["entrypoint"]
    mounts = dict(mount.split(":")[1::-1] for mount in SERVICES["redis"]["volumes"])

    program = compose_file.ROOT / mounts[inside]

    assert program.stat().st_mode & 0o555 == 0o555
    assert program.read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("name", TRITON)
def test_whoever_embeds_has_the_same_backbone(name: str) -> None:
    setting = "LOOKALIKE_BACKBONE"

    assert environment(SERVICES[name])[setting] == environment(SERVICES["api"])[setting]
    assert "backbones:/var/lib/lookalike/backbones:ro" in SERVICES[name]["volumes"]
    assert "backbones:/var/lib/lookalike/backbones" in SERVICES["api"]["volumes"]


def test_only_what_needs_a_gpu_asks_for_one() -> None:
    asking = {
        name
        for name, service in SERVICES.items()
        if "reservations" in service["deploy"]["resources"]
    }

    assert asking == {"plan", "triton-gpu"}
    assert all(SERVICES[name]["profiles"] == ["gpu"] for name in asking)


def test_both_of_our_services_are_one_image_and_see_the_same_originals() -> None:
    api, worker = (SERVICES[name] for name in OURS)

    assert api["image"] == worker["image"]
    assert api["build"] == worker["build"]
    assert api["volumes"] == worker["volumes"]


def test_a_running_chunk_has_time_to_end() -> None:
    worker = SERVICES["worker"]

    assert environment(worker)["REMAP_SIGTERM"] == "SIGQUIT"
    assert worker["stop_grace_period"] == "90s"


@each()
def test_what_is_built_is_there(name: str) -> None:
    build = SERVICES[name].get("build")
    if build is None:
        return

    assert (compose_file.ROOT / build["context"] / build["dockerfile"]).is_file()


# --- the image -----------------------------------------------------------------------


def _dockerfile(instruction: str) -> list[Any]:
    """The JSON form of every such instruction of our image."""
    text = (compose_file.ROOT / "infra/docker/Dockerfile").read_text()
    found = re.findall(rf"^{instruction} (\[.*\])$", text, re.MULTILINE)
    return [ast.literal_eval(each) for each in found]


def test_the_image_starts_without_root_and_without_what_only_developers_need() -> None:
    text = (compose_file.ROOT / "infra/docker/Dockerfile").read_text()

    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert SERVICES["api"]["user"] == "10001:10001"
    assert text.count("uv sync --locked --no-dev") == text.count("uv sync") == 2
    assert not re.search(r"^FROM \S+:latest|^FROM [^\s:]+$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)


def test_the_health_check_of_the_image_is_that_of_the_api() -> None:
    text = (compose_file.ROOT / "infra/docker/Dockerfile").read_text()
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n\s*CMD (\[.*\])$", text, re.MULTILINE)

    assert ["CMD", *yaml.safe_load(check)] == SERVICES["api"]["healthcheck"]["test"]


def test_the_build_sees_no_secrets() -> None:
    lines = (compose_file.ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert not any(".env" in rule for rule in rules)

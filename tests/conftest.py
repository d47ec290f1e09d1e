from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

REQUIRED = "LOOKALIKE_REQUIRE_SERVERS"

# A shell starts background jobs with SIGINT ignored, and their children inherit that;
# the programs under test are to hear it, however these tests were started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where every real part must be there, a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get(REQUIRED) == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped although {REQUIRED}=1: {report.longrepr}"
    return report

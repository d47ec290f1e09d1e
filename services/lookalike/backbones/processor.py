"""Whether this processor gains by int8: read from what Linux says about it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

# Instructions that multiply bytes and add the products into 32 bits in one step.
# Without them int8 is slower than float, or saturates 16-bit sums.
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


@dataclass(frozen=True)
class Int8Support:
    """Whether int8 is fast here, and how that is known."""

    fast: bool
    reason: str


@functools.cache
def int8_support(cpuinfo: Path = CPUINFO) -> Int8Support:
    """What the first processor's flags say; unknown counts as slow.

    Args:
        cpuinfo: a file as Linux's ``/proc/cpuinfo`` (x86 says ``flags``, ARM says
            ``Features``).
    """
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return Int8Support(False, f"unknown: there is no {cpuinfo}")
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return _judged(set(value.split()))
    return Int8Support(False, f"unknown: {cpuinfo} names no flags")


def has_vnni() -> bool:
    """Whether this processor has int8 dot products (VNNI, AMX, or ARM's)."""
    return int8_support().fast


def _judged(flags: set[str]) -> Int8Support:
    for name in DOT_PRODUCTS:
        if name in flags:
            return Int8Support(True, f"the processor has {name}")
    return Int8Support(False, "the processor has none of " + ", ".join(DOT_PRODUCTS))

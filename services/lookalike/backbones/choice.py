"""Which file of a backbone runs on this processor, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lookalike.backbones import Backbone
from lookalike.backbones.processor import Int8Support, int8_support
from lookalike.errors import Misconfigured

Wanted = Literal["auto", "fp32", "int8"]


@dataclass(frozen=True)
class Choice:
    """What runs: a file, turned into float first or as it is; and why."""

    path: Path
    precision: Literal["fp32", "int8"]
    convert: bool
    reason: str


def choose(
    backbone: Backbone, wanted: Wanted = "auto", support: Int8Support | None = None
) -> Choice:
    """The file of a backbone to run on the CPU, its digest checked.

    ``auto`` takes int8 where there is such a network, checked against the reference,
    and the processor gains by it; else float. An int8 reference can always be turned
    into float.

    Args:
        backbone: its reference may be float or int8.
        wanted: ``fp32`` and ``int8`` are taken at their word.
        support: what the processor can do; by default this one.

    Raises:
        Misconfigured: int8 is wanted and was not made, or its file is damaged.
    """
    support = support or int8_support()
    is_int8 = wanted == "int8" or (wanted == "auto" and support.fast)
    why = support.reason if wanted == "auto" else "as set"
    if backbone.precision == "int8":
        precision: Literal["fp32", "int8"] = "int8" if is_int8 else "fp32"
        return Choice(backbone.model_path, precision, not is_int8, why)
    variant = backbone.variants.get("int8")
    if is_int8 and variant is not None:
        return Choice(variant.checked_path(), "int8", False, why)
    if wanted == "int8":
        raise Misconfigured(
            f"LOOKALIKE_PRECISION: the backbone {backbone.name} has no int8 variant. "
            f"Make one with `lookalike backbone quantise {backbone.name}`, or set it "
            "to auto."
        )
    return Choice(
        backbone.model_path, "fp32", False, "no int8 variant" if is_int8 else why
    )

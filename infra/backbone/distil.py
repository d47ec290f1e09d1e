"""Train the student to see what the teacher sees: ``python distil.py --help``.

The student is held to the teacher at four depths: the ends of its first three stages,
seen through a 1 x 1 convolution each, to the teacher's maps of the same resolution
(hints, as in FitNets, arXiv 1412.6550), and its last map to the teacher's features in
512 directions (targets.py), cell by cell and as a whole. The maps have thousands of
places a picture, so few pictures teach the student the teacher's function instead of
its answers on those pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from evaluate import evaluate
from network import Student, start_from
from source import Wish, start
from targets import Targets
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WIDTHS = ((64, 32), (128, 96), (256, 160))  # of the student's stages, of the teacher's
KEPT = 0.999  # of the average of the weights at each step of 64 views
WEIGHTS = {
    "direction": 3.0,
    "distance": 1.0,
    "cells": 1.5,
    "labels": 0.3,
    "hint0": 0.7,
    "hint1": 0.7,
    "hint2": 1.0,
}


class Hints(nn.Module):
    """How the student's stages are compared with the teacher's levels."""

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        self.looks = nn.ModuleList(nn.Conv2d(own, its, 1) for own, its in WIDTHS)
        self._targets = targets
        for level, (_, channels) in enumerate(WIDTHS):
            self.register_buffer(f"mean{level}", torch.zeros(channels))
            self.register_buffer(f"spread{level}", torch.zeros(channels))

    def losses(self, stages: list[Tensor], maps: list[Tensor]) -> dict[str, Tensor]:
        """Squared distance at each level, in variances of the teacher's channels."""
        found = {}
        for level, (look, stage) in enumerate(zip(self.looks, stages, strict=True)):
            wanted = self._targets.level(maps[level], level)
            mean, spread = (
                getattr(self, f"mean{level}"),
                getattr(self, f"spread{level}"),
            )
            if not spread.any():
                mean.copy_(wanted.mean((0, 2, 3)))
                spread.copy_(wanted.std((0, 2, 3)) + 1e-3)
            plane = (slice(None), None, None)
            wanted = (wanted - mean[plane]) / spread[plane]
            found[f"hint{level}"] = (look(stage).float() - wanted).square().mean()
        return found


def last_losses(cells: Tensor, targets: Targets, teacher: Tensor) -> dict[str, Tensor]:
    """The losses of the last map: ``cells`` float ``[N, 512, h, w]``.

    Directions are taken from the mean target, which all pictures share.
    """
    features = targets.features(teacher)
    wanted = targets.cells(features, cells.shape[2:])
    said, goal = cells.mean((2, 3)), targets.whole(features)
    mean, plane = targets.mean, targets.mean[:, None, None]
    cosine = functional.cosine_similarity
    return {
        "direction": 1 - cosine(said - mean, goal - mean).mean(),
        "distance": (said - goal).square().sum(1).mean() / targets.variance,
        "cells": 1 - cosine(cells - plane, wanted - plane).mean(),
        "labels": functional.kl_div(
            functional.log_softmax(targets.logits(said), 1),
            functional.log_softmax(targets.logits(goal), 1),
            log_target=True,
            reduction="batchmean",
        ),
    }


class Run:
    """A training run that can be stopped and gone on with."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.targets = Targets.load(options.views / "targets.npz").to(self.device)
        self.student, self.hints = Student(), Hints(self.targets)
        self.average = AveragedModel(
            self.student, multi_avg_fn=get_ema_multi_avg_fn(KEPT), use_buffers=True
        )
        self.spent, self.seen = 0.0, 0
        self._last = options.out / "last.pt"
        state = self._restored()
        self.student.to(self.device, memory_format=torch.channels_last)
        self.average.to(self.device, memory_format=torch.channels_last)
        self.hints.to(self.device)
        modules = (self.student, self.hints)
        weights = [p for module in modules for p in module.parameters()]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in weights if p.ndim > 1]},
                {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=options.rate,
            weight_decay=options.decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        if state:
            self.optimiser.load_state_dict(state)

    def _restored(self) -> dict[str, object] | None:
        if self._last.exists():
            saved = torch.load(self._last, map_location="cpu")
            self.student.load_state_dict(saved["student"])
            self.hints.load_state_dict(saved["hints"])
            self.average.load_state_dict(saved["average"])
            self.spent, self.seen = saved["spent"], saved["seen"]
            return saved["optimiser"]
        if self.options.checkpoint:
            saved = torch.load(self.options.checkpoint, map_location="cpu")
            self.student.load_state_dict(saved["student"])
            if "hints" in saved:
                self.hints.load_state_dict(saved["hints"])
        elif self.options.start:
            start_from(self.student, self.options.start, self.options.first)
        self.average.module.load_state_dict(self.student.state_dict())
        return None

    def rate(self) -> float:
        """The learning rate now: up over 20,000 views, then level.

        The average of the weights takes the place of a rate that falls, so that a run
        of any length can be gone on with.
        """
        return float(self.options.rate * min(1.0, self.seen / 20_000))

    def step(self, pixels: np.ndarray, levels: list[np.ndarray]) -> dict[str, float]:
        """Learn from one batch; gives the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        x = x.contiguous(memory_format=torch.channels_last)
        maps = [torch.from_numpy(level).to(self.device) for level in levels]
        with torch.autocast(self.device.type, torch.bfloat16):
            *stages, cells = self.student.levels(x)
            losses = self.hints.losses(stages, maps[:-1])
        losses |= last_losses(cells.float(), self.targets, maps[-1])
        total = sum(WEIGHTS[name] * value for name, value in losses.items())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimiser.step()
        self.average.update_parameters(self.student)
        self.seen += len(x)
        return {name: value.item() for name, value in losses.items()}

    def save(self) -> None:
        """Write the state in one step, so that a kill leaves the old one."""
        partial = self._last.with_suffix(".part")
        torch.save(
            {
                "student": self.student.state_dict(),
                "average": self.average.state_dict(),
                "hints": self.hints.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "spent": self.spent,
                "seen": self.seen,
            },
            partial,
        )
        partial.rename(self._last)

    def report(self) -> None:
        """Measure, and write it down."""
        options = self.options
        figures = evaluate(
            self.average.module, options.side, options.tiny, options.photographs
        )
        line = json.dumps({"seen": self.seen, "seconds": round(self.spent), **figures})
        print(line, flush=True)
        with (options.out / "log.jsonl").open("a") as file:
            file.write(line + "\n")


def main() -> None:
    """Train for some minutes; run it again with the same folder to go on."""
    options = arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    kinds = {
        name: float(chance) for name, chance in (k.split(":") for k in options.kinds)
    }
    wish = Wish(options.views, options.teacher, kinds, options.side, options.batch)
    # A run that is gone on with must not see its first views again.
    source = start(wish, options.producers, options.seed + int(time.time()))
    first = torch.from_numpy(next(source)[0]).permute(0, 3, 1, 2).float()
    options.first = first
    run = Run(options)
    averages: dict[str, float] = {}
    mark = evaluated = time.monotonic()
    run.student.train()
    steps = 0
    while run.spent < 60 * options.minutes:
        losses = run.step(*next(source))
        steps += 1
        now = time.monotonic()
        run.spent += now - mark
        mark = now
        for name, value in losses.items():
            averages[name] = 0.98 * averages.get(name, value) + 0.02 * value
        if steps % 100 == 0:
            rounded = {name: round(value, 3) for name, value in averages.items()}
            print(f"{run.spent:.0f}s {run.seen} {run.rate():.5f} {rounded}", flush=True)
        if now - evaluated > options.every * 60:
            run.save()
            run.report()
            mark = evaluated = time.monotonic()
    run.save()
    run.report()


def arguments() -> argparse.Namespace:
    """What to train on and for how long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=Path, required=True, help="made by views.py")
    parser.add_argument("--teacher", type=Path, required=True, help="the .tflite file")
    parser.add_argument("--out", type=Path, required=True, help="state and log")
    parser.add_argument("--start", type=Path, help="an earlier backbone's model.onnx")
    parser.add_argument("--checkpoint", type=Path, help="last.pt of an earlier run")
    parser.add_argument("--kinds", nargs="+", required=True, help="tiny:0.4 crop:0.3 …")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--every", type=float, default=10, help="minutes, to measure")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--producers", type=int, default=1, help="run the teacher")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--tiny", type=Path, help="Tiny ImageNet, to measure on")
    parser.add_argument("--photographs", type=Path, help="folder of labels.csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""A design: what is woven, printed, cut or poured, before any colour or light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lookalike.demo.noise import Field, cloud
from lookalike.demo.palettes import Palette

CANVAS = 768  # pixels to a side of the flat piece that swatches are cut from
FINE = 2 * CANVAS  # labels are drawn at twice that, so that edges come out smooth

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Design:
    """One pattern, to be made in several colourways.

    Attributes:
        style: what a shop would call it.
        labels: a label of ``Palette.shades``, or a place on ``Palette.ramp``.
        relief: how bright each thread or grain is, about 1.
        blended: whether labels are places on the ramp.
        hard: a slab, which has no folds.
    """

    style: str
    labels: Labels
    relief: Field
    blended: bool = False
    hard: bool = False

    def dyed(self, palette: Palette) -> Image.Image:
        """The flat piece in those colours."""
        table = palette.ramp() if self.blended else palette.shades()
        indexed = Image.fromarray(self.labels, "L")
        indexed.putpalette(table.tobytes())
        flat = indexed.convert("RGB")
        return flat.reduce(2) if flat.width == FINE else flat


def plane(side: int = CANVAS) -> tuple[Field, Field]:
    """The x and y of every pixel, in pixels of the canvas; they broadcast."""
    line = np.arange(side, dtype=np.float32) * np.float32(CANVAS / side)
    return line[None, :], line[:, None]


def turned(degrees: float, side: int = CANVAS) -> tuple[Field, Field]:
    """The coordinates of a plane turned by an angle."""
    x, y = plane(side)
    angle = np.deg2rad(degrees)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def fraction(values: Field) -> Field:
    """What is left of each value above its whole number."""
    left: Field = values - np.floor(values)
    return left


# --- how the surface feels -----------------------------------------------------------


def weave(rng: np.random.Generator, thread: float, strength: float = 0.1) -> Field:
    """Plain weave: threads over and under, some thicker, some darker."""
    x, y = plane()
    over = np.sin(x * (np.pi / thread)) * np.sin(y * (np.pi / thread))
    relief: Field = np.float32(strength) * over.astype(np.float32)
    return relief + 1 + _slubs(rng, strength * 0.5)


def twill(rng: np.random.Generator, thread: float, strength: float = 0.1) -> Field:
    """Twill: fine diagonal ribs, as on denim or gabardine."""
    x, y = plane()
    ribs = np.sin((x + y) * (np.pi / thread))
    relief: Field = np.float32(strength) * ribs.astype(np.float32)
    return relief + 1 + _slubs(rng, strength * 0.5)


def wool(rng: np.random.Generator, strength: float = 0.09) -> Field:
    """A fuzzy surface of short fibres."""
    fuzz = cloud(rng, CANVAS, 190, 2, falloff=0.8)
    uneven = cloud(rng, CANVAS, 12, 2)
    return (1 + strength * fuzz + 0.25 * strength * uneven).astype(np.float32)


def velvet(rng: np.random.Generator, strength: float = 0.06) -> Field:
    """A pile brushed this way and that."""
    brushed = cloud(rng, CANVAS, 7, 3)
    pile = cloud(rng, CANVAS, 240, 1)
    return (1 + strength * brushed + 0.6 * strength * pile).astype(np.float32)


def polish(rng: np.random.Generator, strength: float = 0.012) -> Field:
    """Almost nothing: a polished slab."""
    return (1 + strength * cloud(rng, CANVAS, 160, 2)).astype(np.float32)


def _slubs(rng: np.random.Generator, strength: float) -> Field:
    rows = rng.standard_normal((CANVAS, 1), dtype=np.float32)
    columns = rng.standard_normal((1, CANVAS), dtype=np.float32)
    uneven = cloud(rng, CANVAS, 60, 2)
    slubs: Field = 0.8 * rows + 0.8 * columns + 0.6 * uneven
    return slubs * np.float32(strength)


def surface(rng: np.random.Generator) -> Field:
    """Some textile surface."""
    thread = float(rng.uniform(2.4, 5.0))
    match int(rng.integers(5)):
        case 0 | 1:
            return weave(rng, thread, float(rng.uniform(0.07, 0.14)))
        case 2:
            return twill(rng, thread, float(rng.uniform(0.06, 0.12)))
        case 3:
            return wool(rng, float(rng.uniform(0.05, 0.1)))
        case _:
            return velvet(rng)

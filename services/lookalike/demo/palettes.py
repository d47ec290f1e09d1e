"""Colourways: five colours that go together, named after the one that dominates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHADES = 8  # each slot of a palette comes in this many shades, dark to light
PLAIN = 4  # the shade that is the colour itself
SLOTS = 5

Lut = npt.NDArray[np.uint8]  # [256, 3]


@dataclass(frozen=True)
class Palette:
    """Five colours; the first covers the most and names the palette."""

    name: str
    colours: tuple[str, str, str, str, str]

    def rgb(self) -> npt.NDArray[np.float32]:
        """The colours as ``[5, 3]``, 0 to 255."""
        values = [list(bytes.fromhex(colour)) for colour in self.colours]
        return np.array(values, np.float32)

    def shades(self) -> Lut:
        """A table for label ``slot * SHADES + shade``."""
        table = np.zeros((256, 3), np.float32)
        for slot, colour in enumerate(self.rgb()):
            for shade in range(SHADES):
                step = (shade - PLAIN) / PLAIN
                target = 0.0 if step < 0 else 255.0
                mixed = colour + abs(step) * 0.62 * (target - colour)
                table[slot * SHADES + shade] = mixed
        return table.astype(np.uint8)

    def ramp(self) -> Lut:
        """A table that blends the five colours, first to last."""
        places = np.linspace(0, 255, SLOTS)
        channels = [
            np.interp(np.arange(256), places, self.rgb()[:, channel])
            for channel in range(3)
        ]
        return np.stack(channels, axis=1).astype(np.uint8)


def label(slot: int, shade: int = PLAIN) -> int:
    """The label of a slot of the palette in one of its shades."""
    return slot * SHADES + shade


def _read(text: str) -> tuple[Palette, ...]:
    palettes = []
    for line in text.strip().splitlines():
        name, *colours = line.split()
        first, second, third, fourth, fifth = colours
        palettes.append(Palette(name, (first, second, third, fourth, fifth)))
    return tuple(palettes)


# name, ground, main, second, accent, contrast
TEXTILE = _read("""
navy 1f2d4d f1ead9 b8433a d9a441 6f8fb3
red a62b2f f4e9d8 2b3350 dfa13c 6b1a22
cream efe5cf a8563e 5c6f52 2f3b4c d3a24c
green 2f5a43 eee6cd c9a24a 8a2f32 86a67f
mustard cf9a2e 3b3a36 f3ead6 8c3b2a 5d7a74
teal 1d6a70 f2e8d5 e08e5a 17353f 8fc0b5
pink e3a5ab 7d2f43 f7ece4 4c6a5d d96b73
grey 8d9196 f1f0ec 3a3e46 c9a9a0 5d6570
black 24242a ece6da a9915f 7d2b34 6d7278
white f2f0ea 33507a c3573f e0b14f 7f9a8a
blue 4a78b0 f5efe2 1c2f55 f0b35a cfdcea
purple 5f3f72 eee3ee c98fb5 2b1f3a d8a94d
orange d4722c f6ead6 5a2a20 2f5d62 f0b04f
brown 6f4a33 ecdcc0 c98b4e 2e211b 9aa17c
beige cdb793 6b4a36 f5eddd 9a3b34 55645c
olive 6d6f3c efe7cd 2f3325 c98a3a a8aa78
burgundy 5f1d2e eadfce c58a52 2a2330 a86571
turquoise 4fb0ac fbf4e6 e5684f 1f4f61 f2c866
lilac b9a3cb f6f0f5 6a4d86 e9c56c 7fa08f
mint a9d0ba fdf8ee e58a76 3d6f69 f0cf7f
yellow efcb4e 3a4a63 fbf5e1 d8693c 7e9b6e
coral e4755f fbeee2 2d5468 f3c06b 8f2f38
""")

CAMOUFLAGE = _read("""
green 56643c 2f3b25 8a7f55 1d1f1a 76804e
beige c9b48c 9d7f56 e0d1b0 6f5a3f 857453
grey 8b8f92 5a5f64 b9bcbd 2c2f33 6e7478
navy 2e3f5f 1a2438 5b7090 0f141f 43577a
olive 6b6a3a 43442a 97905a 24241c 7f7c48
pink d58fa2 a4526e efc6cd 5b2b3f e3a9b6
brown 7a5b3c 4a3524 a88a5f 261c15 8f6f4a
white e6e8e6 b4bcbd f6f6f4 7e888c ccd2d2
""")

ANIMAL = _read("""
beige d9b27a 2a1d16 a8713c f0dcb4 5e3d24
white f3efe6 1d1b1c 8f8a84 d8d0c4 4a4646
orange cf7f35 211712 f0cf9a 8a4a20 f7e6c6
grey a9a7a6 2a2a2e 6f6e72 d9d7d5 4c4b50
brown 8b5a35 f0dfc2 5a3520 2a1a12 b98552
pink e79bb2 2b1a25 b24a72 f7d3dc 6f2a4a
turquoise 57b7b4 122f3a 1f7480 c5ebe2 0f4a57
red b53a34 1d1212 741c20 e98a72 4a1315
""")

# dark to light, blended
WOOD = _read("""
brown 4b2f1d 6b4529 875a36 a0714a b58a63
beige a87f55 bd9669 cdaa7e d9bb92 e5cca8
red 5a2418 7a3421 96472d ad5f3f c07b58
black 1b1614 2a2320 3a312c 4a403a 5d524a
orange 8a4f22 a9652d c17d3d d29552 e0ad6c
grey 6b6762 817d77 96928b aaa69f bcb9b2
white b5aa99 c8bfb0 d6cfc2 e3ddd2 ece8df
olive 4a4327 625a36 7a7147 918859 a69e70
""")

# vein to ground, blended
MARBLE = _read("""
white 8d9096 c3c5c8 e4e4e3 f0f0ee f7f6f3
black e8e4da 8b8781 3a393b 232326 16171a
green d5ddcf 7f9c86 3f6753 264a3b 18332a
pink 8a5a58 c79a94 e0bdb4 ebd2c9 f3e3da
beige 9a7a55 c9ad87 ddc8a8 e8d9c0 f1e7d5
blue e6eaec b3c0ca 8b9dac 75899b 627688
grey f0f0ee a9adb0 83888d 6c7177 585d64
brown e3c9a4 a97b4e 74492d 553320 3c2418
red f0ddd2 c98a7c 96423c 74292a 571c20
""")

# from fold to fold, blended
DYE = _read("""
blue 12284f 2f5fa0 7fb0d6 d7e9f2 1d3f78
navy 141c3c 2b3d72 e9ebf0 5f77ad 1a2550
pink f04f86 f9a23c fbe25a 56c0a8 6a62c2
orange d8442a f28a2e f9d25c f7efe0 c22f4a
green 1f5a3c 5f9a4a c5d67a f2f0d8 2f7a6a
purple 3a1f5f 7a3f9f c77fc0 f0d7ea 52308a
teal 0f4f58 2f8f90 9fd0c0 f2ead8 d98f5a
yellow f2c230 f7e9b0 7fb77f 2f8fa0 f28a3c
""")

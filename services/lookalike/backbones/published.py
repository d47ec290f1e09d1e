"""Public weights that ``lookalike backbone fetch`` can get, and their architectures.

Names, digests, sides and accuracies are those torchvision publishes (0.21,
``torchvision/models/*.py``); each file's name ends with the first eight digits of its
SHA-256. Of networks with two sets of weights the first is the default: those of the
second were trained with label smoothing and mixed pictures, which makes classes
sharper and what lies before them less transferable (Kornblith et al., "Why do better
loss functions lead to less transferable features?", arXiv 2010.16402), and search
lives on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lookalike.backbones.checkpoint import Weights
from lookalike.backbones.graph import IMAGENET, Normalisation
from lookalike.backbones.inception import InceptionV3
from lookalike.backbones.layers import Layers
from lookalike.backbones.resnet import Resnet
from lookalike.backbones.vgg import Vgg16
from lookalike.errors import Misconfigured
from lookalike.images import Geometry

if TYPE_CHECKING:
    import onnx


class Architecture(Protocol):
    """A kind of network that can be written down as ONNX."""

    def model(
        self, name: str, layers: Layers, normalisation: Normalisation, side: int
    ) -> onnx.ModelProto:
        """The network with these weights; raises Misconfigured if they are others."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "resnet18": Resnet((2, 2, 2, 2), bottleneck=False),
    "resnet34": Resnet((3, 4, 6, 3), bottleneck=False),
    "resnet50": Resnet((3, 4, 6, 3)),
    "resnet101": Resnet((3, 4, 23, 3)),
    "resnet152": Resnet((3, 8, 36, 3)),
    "wide_resnet50_2": Resnet((3, 4, 6, 3)),
    "wide_resnet101_2": Resnet((3, 4, 23, 3)),
    "resnext50_32x4d": Resnet((3, 4, 6, 3), groups=32),
    "resnext101_32x8d": Resnet((3, 4, 23, 3), groups=32),
    "vgg16": Vgg16(),
    "inception_v3": InceptionV3(),
}

SQUARE = Geometry(side=224, resize=256)
LICENCE = (
    "BSD-3-Clause (torchvision). Trained on ImageNet-1k, whose pictures are for "
    "non-commercial research."
)


@dataclass(frozen=True)
class Published:
    """Weights that are published under a fixed name.

    ``sha256`` is the whole digest where it is known, or else its first digits, which
    the file's name carries. ``accuracy`` is the top-1 accuracy on ImageNet, 0 to 1.
    """

    name: str
    architecture: str
    file: str
    sha256: str
    megabytes: int
    dimension: int
    accuracy: float
    geometry: Geometry = SQUARE
    normalisation: Normalisation = IMAGENET
    stored_as: str = ""

    @property
    def default_name(self) -> str:
        """The name of the backbone made of it; never that of a bundled one."""
        return self.stored_as or self.name


# Ported from TensorFlow, where pixels are -1 to 1.
_PLUS_MINUS_ONE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_ALL = (
    Published(
        "resnet18",
        "resnet18",
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        megabytes=47,
        dimension=512,
        accuracy=0.698,
        stored_as="resnet18-imagenet",
    ),
    Published(
        "resnet34",
        "resnet34",
        "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        megabytes=87,
        dimension=512,
        accuracy=0.733,
    ),
    Published(
        "resnet50",
        "resnet50",
        "resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        megabytes=103,
        dimension=2048,
        accuracy=0.761,
    ),
    Published(
        "resnet50-v2",
        "resnet50",
        "resnet50-11ad3fa6.pth",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        megabytes=103,
        dimension=2048,
        accuracy=0.809,
        geometry=Geometry(side=224, resize=232),
    ),
    Published(
        "resnet101",
        "resnet101",
        "resnet101-63fe2227.pth",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
        megabytes=179,
        dimension=2048,
        accuracy=0.774,
    ),
    Published(
        "resnet152",
        "resnet152",
        "resnet152-394f9c45.pth",
        "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
        megabytes=242,
        dimension=2048,
        accuracy=0.783,
    ),
    Published(
        "wide_resnet50_2",
        "wide_resnet50_2",
        "wide_resnet50_2-95faca4d.pth",
        "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8",
        megabytes=138,
        dimension=2048,
        accuracy=0.785,
    ),
    Published(
        "wide_resnet101_2",
        "wide_resnet101_2",
        "wide_resnet101_2-32ee1156.pth",
        "32ee1156",
        megabytes=255,
        dimension=2048,
        accuracy=0.788,
    ),
    Published(
        "resnext50_32x4d",
        "resnext50_32x4d",
        "resnext50_32x4d-7cdf4587.pth",
        "7cdf4587",
        megabytes=100,
        dimension=2048,
        accuracy=0.776,
    ),
    Published(
        "resnext101_32x8d",
        "resnext101_32x8d",
        "resnext101_32x8d-8ba56ff5.pth",
        "8ba56ff5",
        megabytes=356,
        dimension=2048,
        accuracy=0.793,
    ),
    Published(
        "vgg16",
        "vgg16",
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        megabytes=553,
        dimension=512,
        accuracy=0.716,
    ),
    Published(
        "inception_v3",
        "inception_v3",
        "inception_v3_google-0cc3c7bd.pth",
        "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",
        megabytes=109,
        dimension=2048,
        accuracy=0.773,
        geometry=Geometry(side=299, resize=342),
        normalisation=_PLUS_MINUS_ONE,
    ),
)
PUBLISHED: Mapping[str, Published] = {one.name: one for one in _ALL}


def published(name: str) -> Published:
    """The public weights of this name.

    Raises:
        Misconfigured: there are none; the message names all there are.
    """
    if name not in PUBLISHED:
        raise Misconfigured(
            f"there are no public weights {name!r}. There are {', '.join(PUBLISHED)}. "
            "Any other network comes by `lookalike backbone add FILE.onnx`.",
            extra={"known": list(PUBLISHED)},
        )
    return PUBLISHED[name]


def exported(
    weights: Weights,
    architecture: str,
    *,
    side: int = SQUARE.side,
    normalisation: Normalisation | None = None,
) -> onnx.ModelProto:
    """A network of this architecture with these weights, keeping the contract.

    ``images`` uint8 ``[N, side, side, 3]`` in; ``embedding`` float32 ``[N, D]`` of
    unit length and ``feature_map`` float16 ``[N, h, w, C]`` out.

    Raises:
        Misconfigured: no such architecture, or the weights are not of it.
    """
    if architecture not in ARCHITECTURES:
        raise Misconfigured(
            f"there is no architecture {architecture!r}. There are "
            f"{', '.join(ARCHITECTURES)}.",
            extra={"known": list(ARCHITECTURES)},
        )
    if normalisation is None:
        normalisation = PUBLISHED[architecture].normalisation
    layers = Layers(weights, architecture)
    return ARCHITECTURES[architecture].model(architecture, layers, normalisation, side)

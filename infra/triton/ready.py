#!/usr/bin/env python3
"""Whether Triton embeds a picture by the right backbone; exit status 0 if it does.

Triton's own readiness has been seen to stay good after the model's process had died.

``LOOKALIKE_TRITON_URL`` says where; by default this machine's port 8001.
"""

from __future__ import annotations

import sys

import numpy as np

from lookalike.backbones import find
from lookalike.backends.triton import TritonEmbedder
from lookalike.config import Settings
from lookalike.errors import LookalikeError

settings = Settings()
try:
    backbone = find(settings.backbone, [settings.backbones])
    side = backbone.geometry.side
    TritonEmbedder(
        backbone,
        settings.triton_url or "127.0.0.1:8001",
        model=settings.triton_model,
        timeout_seconds=settings.triton_timeout_seconds,
    ).embed(np.full((1, side, side, 3), 127, np.uint8))
except LookalikeError as error:
    sys.exit(f"ready: {error.detail}")

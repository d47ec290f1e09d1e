"""Settings: one frozen class, read from ``LOOKALIKE_*`` environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything an operator can change. Units are in the names.

    Empty defaults mean "the embedded part": SQLite, Milvus Lite, threads and a
    directory, all below ``data_dir``. Setting a URL swaps in the server of that part;
    no code differs.
    """

    model_config = SettingsConfigDict(
        env_prefix="LOOKALIKE_", frozen=True, extra="forbid"
    )

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("lookalike")),
        description="Where the embedded parts and the originals live.",
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Ledger: a SQLAlchemy URL (postgresql+psycopg://…). "
        "Empty: SQLite in the data folder.",
    )
    milvus_uri: str = Field(
        "",
        description="Vectors: http://host:19530 of a Milvus server. "
        "Empty: Milvus Lite in the data folder.",
    )
    milvus_token: SecretStr = Field(
        SecretStr(""), description="user:password of the Milvus server."
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="Queue: redis://… turns Celery on. Empty: worker threads "
        "inside the one process.",
    )
    originals_dir: Path | None = Field(
        None, description="Where originals are kept. Empty: inside the data folder."
    )
    backbone: str = Field(
        "resnet18", description="The network that embeds: a name or a directory."
    )
    backbones_dir: Path | None = Field(
        None,
        description="Where backbones that were added or fetched are kept. "
        "Empty: inside the data folder.",
    )
    backbone_mirror: str = Field(
        "https://download.pytorch.org/models",
        description="Where `lookalike backbone fetch` gets public weights: the "
        "address of a folder that holds them under their published names.",
    )
    precision: Literal["auto", "fp32", "int8"] = Field(
        "auto",
        description="Numbers the network computes in where it runs in this process. "
        "auto: int8 where there is such a variant and the processor gains by it.",
    )
    triton_url: str = Field(
        "",
        description="Embedding: host:8001 of a Triton server, its gRPC port. "
        "Empty: ONNX Runtime in this process.",
    )
    triton_model: str = Field(
        "", description="Triton's model. Empty: the one named like the backbone."
    )
    triton_timeout_seconds: float = Field(
        5,
        gt=0,
        le=300,
        description="Triton answers one call, of a batch at most, within this time.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(
        default_factory=lambda: max(1, os.cpu_count() or 1),
        ge=1,
        le=256,
        description="Images are decoded and embedded by this many workers at once.",
    )
    http_threads: int = Field(
        16, ge=2, le=256, description="Requests answered at once by one process."
    )
    chunk_images: int = Field(
        64, ge=1, le=512, description="Images in one message to a worker."
    )
    extra_formats: tuple[str, ...] = Field(
        (),
        description='Formats accepted beside JPEG, PNG, WebP and GIF: ["TIFF"], '
        '["HEIF"] (needs the heif extra).',
    )
    max_image_bytes: int = Field(
        20 * 2**20, ge=1024, description="Largest image file, in bytes."
    )
    max_image_pixels: int = Field(
        40_000_000, ge=4096, description="Largest image, width times height."
    )
    max_image_side: int = Field(
        16_384, ge=64, description="Longest side of an image, in pixels."
    )
    max_request_bytes: int = Field(
        512 * 2**20, ge=2**16, description="Largest request body, in bytes."
    )
    max_request_images: int = Field(
        1_000, ge=1, description="Most images in one multipart or JSON request."
    )
    max_metadata_bytes: int = Field(
        16 * 2**10, ge=256, description="Largest metadata of one image, as JSON."
    )
    max_limit: int = Field(
        1_000, ge=1, le=10_000, description="Most matches a search may ask for."
    )
    max_decode_bytes: int = Field(
        200_000_000,
        ge=10_000_000,
        description="Most memory that decoding one image may take; one that would "
        "take more is refused by its header.",
    )
    max_pending_images: int = Field(
        1_000_000,
        ge=1,
        description="With so many images waiting, ingestion is refused (429).",
    )
    max_pending_images_per_team: int = Field(
        500_000, ge=1, description="The same for the images of one team."
    )
    min_free_bytes: int = Field(
        2**30,
        ge=0,
        description="With less room on the disk of the originals, ingestion is "
        "refused (507).",
    )
    idempotency_hours: float = Field(
        48, gt=0, description="How long an Idempotency-Key is remembered."
    )
    orphan_hours: float = Field(
        24,
        gt=0,
        description="Originals that no image names are set aside after this, and "
        "removed after as long again.",
    )
    keep_days: float = Field(
        30,
        gt=0,
        description="How long finished jobs and traces of deleted images are kept.",
    )
    lease_seconds: int = Field(
        180, ge=1, description="A claimed chunk is given to another worker after this."
    )
    reconcile_seconds: float = Field(
        10, gt=0, description="How often what is pending is looked for and rung again."
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What is logged to stderr: this level and above."
    )

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the ledger."""
        configured = self.database_url.get_secret_value()
        return configured or f"sqlite:///{self.data_dir / 'ledger.sqlite3'}"

    @property
    def milvus_address(self) -> str:
        """What a Milvus client connects to: a URL, or a Milvus Lite file."""
        return self.milvus_uri or str(self.data_dir / "milvus.db")

    @property
    def originals(self) -> Path:
        """The folder of the originals."""
        return self.originals_dir or self.data_dir / "originals"

    @property
    def backbones(self) -> Path:
        """The folder of the backbones that are not bundled."""
        return self.backbones_dir or self.data_dir / "backbones"

    @property
    def is_embedded_embedder(self) -> bool:
        """Whether images are embedded inside this process."""
        return not self.triton_url

    @property
    def is_embedded_index(self) -> bool:
        """Whether vectors live in Milvus Lite, which one process alone may open."""
        return not self.milvus_uri

    @property
    def is_embedded_ledger(self) -> bool:
        """Whether the ledger is the data folder's own SQLite file."""
        return not self.database_url.get_secret_value()

    @property
    def is_embedded_queue(self) -> bool:
        """Whether the work is done by threads of this process."""
        return not self.redis_url.get_secret_value()

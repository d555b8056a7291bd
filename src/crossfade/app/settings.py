"""Settings: flag > CROSSFADE_* environment > default. Secrets come from files."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """How a controller runs on this machine; the plan says what it does."""

    model_config = SettingsConfigDict(env_prefix="CROSSFADE_", extra="ignore")

    state: Path = Path(".crossfade")
    """Folder that holds one folder per rollout: proxy files, store, control file."""
    database: str = ""
    """SQLAlchemy URL of the store; empty: SQLite in the rollout's folder."""
    api_port: int = Field(default=8090, ge=0, le=65535)
    """0 takes a free port."""
    listen: str = ""
    """HOST:PORT of the control API; empty: loopback at `api_port`."""
    host_name: str = ""
    """Names that the control API answers to besides those of loopback, separated by commas."""
    tls_cert: Path | None = None
    """PEM file with the certificate and those that lead to its authority."""
    tls_key: Path | None = None
    trusted_proxy: str = ""
    """Address of the proxy in front of the control API, whose X-Forwarded-For and -Proto are believed."""
    tick_s: float = Field(default=10.0, gt=0)
    """Length of a tick in plan seconds."""
    lateness_s: float = Field(default=15.0, ge=0)
    """Real seconds that a tick waits for its slowest requests."""
    speed: float = Field(default=1.0, gt=0)
    """Plan seconds per real second; above 1 only for demonstrations."""

    lease_s: float = Field(default=5.0, ge=1.0)
    """Real seconds that a leader may act after it renewed its lease; another one takes over within twice that."""

    keep_days: float = Field(default=90.0, gt=0)
    """Plan days that ticks and looks from before the present attempt are kept; events are kept for good."""

    public_url: str = ""
    """Address by which people reach the control API, for links in notices; empty: where it listens."""

    allow_private_webhooks: str = ""
    """Hosts, addresses and networks that notices may be posted to though they are not public, by commas."""

    def folder(self, rollout: str) -> Path:
        """Return the folder of a rollout."""
        return self.state / rollout

"""What is PostgreSQL's own: how long it may take, and what its errors mean."""

from __future__ import annotations

from crossfade.errors import CrossfadeError, StoreError, UnreachableError

CONNECT_S = 3.0
COMMAND_S = 3.0
"""How long the server may take to answer before it counts as unreachable."""
IDLE_S = 2.0
"""How long a transaction may wait for its writer: one that was stopped in the middle holds up everybody else."""
OPEN_LOCK = 0x63726F7373
"""Advisory lock ("cross") held while the schema is looked at and migrated."""

_REASONS = {  # by SQLSTATE, or its class
    "28": ("the server refused the user or password", "correct the URL, or the server's pg_hba.conf"),
    "3D": ("the database does not exist", "run: createdb, with the name in the URL"),
    "42501": ("the user may not do that", "grant it CREATE on the schema, and all on Crossfade's tables"),
    "25006": ("the server is read-only", "give the URL of the primary"),
    "53100": ("the server's disk is full", "free some space; writing goes on by itself then"),
}
_GONE = ("08", "25P03", "57P", "53300")
"""The connection broke or was cut, the server is going or coming, or has too many clients: trying again may help."""


def explain(shown: str, cause: BaseException) -> CrossfadeError:
    """Return what a driver's error means for the database `shown`, with advice."""
    state = str(getattr(cause, "sqlstate", None) or "")
    for known, (reason, advice) in _REASONS.items():
        if state.startswith(known):
            return StoreError(f"{shown}: {reason} ({cause}); {advice}")
    if not state or state.startswith(_GONE):
        reason = str(cause) or "no answer in time"
        return UnreachableError(f"{shown} does not answer ({reason}); start the server, or correct the URL")
    return StoreError(f"{shown}: the database refused (SQLSTATE {state}: {cause}); see the reason")

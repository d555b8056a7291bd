"""Names that a shell completes: from the state's folders and plan files alone, so that the answer is there at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crossfade.app.control import find_folder, noted_plan
from crossfade.errors import CrossfadeError


def rollouts(options: Mapping[str, Any]) -> list[str]:
    """Return the rollouts of the state folder."""
    state = Path(options.get("state") or ".crossfade")
    try:
        return sorted(path.name for path in state.iterdir() if path.is_dir())
    except OSError:
        return []


def phases(options: Mapping[str, Any]) -> list[str]:
    """Return the phases of the plan that is meant."""
    listed = _plan(options).get("phases")
    found = (phase.get("name") for phase in (listed if isinstance(listed, list) else ()) if isinstance(phase, dict))
    return _texts(found)


def metrics(options: Mapping[str, Any]) -> list[str]:
    """Return the metrics of the plan that is meant."""
    named = _plan(options).get("metrics")
    return _texts(named if isinstance(named, dict) else ())


def _texts(found: Iterable[Any]) -> list[str]:
    return [name for name in found if isinstance(name, str)]


def _plan(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan file as it is written; nothing where it can't be read: a completion has no place for errors."""
    import yaml

    try:
        path = options.get("plan")
        if not isinstance(path, Path):
            path = noted_plan(find_folder(Path(options.get("state") or ".crossfade"), options.get("rollout")))
        plan = {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, CrossfadeError):
        return {}
    return plan if isinstance(plan, dict) else {}

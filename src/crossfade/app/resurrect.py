"""`crossfade resurrect`: the plan of a new rollout that brings a retired V1 back, for a person to look over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from crossfade.app.planfile import load_plan
from crossfade.errors import UsageError

_LEFT_OUT = ("deprecation", "contract")
"""Speak of the V1 that goes, and of differences in the other direction."""
_WITH_DEPRECATION = frozenset({"no exempted client left"})
"""Gates that make no sense without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written."""

    rollout: str
    of: str
    """The rollout whose V1 comes back."""
    path: Path


def write_resurrection(plan: Path, output: Path | None) -> Written:
    """Write the plan with V1 and V2 in each other's place: clients move from what serves now to what was retired.

    It stands beside the plan, since files are named from there. Raises UsageError where the file is there already or
    can't be written, PlanError where the plan can't be read, or can't be turned round.
    """
    name = load_plan(plan).name
    new = f"{name}-resurrected"
    path = output or plan.with_name(f"{new}.yaml")
    if path.parent.resolve() != plan.parent.resolve():
        raise UsageError(f"{path} is not beside {plan}, from where its files are named; choose a name there")
    root = yaml.compose(plan.read_text(encoding="utf-8"), yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - it was loaded as a plan
    _turn_round(root, new)
    head = (
        f"# {name} the other way round: v1 is what serves now, v2 is the V1 that was retired.\n"
        "# Look over baselines, targets, facts and phases before you start it.\n"
    )
    text = yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True, width=120)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(head + text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; remove it, or say --to FILE") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from None
    load_plan(path)
    return Written(rollout=new, of=name, path=path)


def _turn_round(root: yaml.MappingNode, name: str) -> None:
    root.value = [(key, value) for key, value in root.value if key.value not in _LEFT_OUT]
    held = {key.value: value for key, value in root.value}
    held["rollout"].value = name
    versions = {key.value: key for key, _ in held["api"].value}
    versions["v1"].value, versions["v2"].value = "v2", "v1"
    for phase in held["phases"].value:
        phase.value = [(key, value) for key, value in phase.value if key.value != "then"]
        for key, gates in phase.value:
            if key.value == "promote when":
                gates.value = [gate for gate in gates.value if gate.value.lower() not in _WITH_DEPRECATION]
        phase.value = [(key, value) for key, value in phase.value if key.value != "promote when" or value.value]

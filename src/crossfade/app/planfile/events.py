"""The `events` section: what users do, seen in requests at the proxy or posted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field
from crossfade.app.planfile.source import Items, Text
from crossfade.core.behaviour import GRACE_S
from crossfade.core.plan import Metric, Phase, UserEvent
from crossfade.core.words import duration

EVENT_KEYS = ("get", "post", "put", "patch", "delete")
POSTED = "posted"
EVENTS_MAX = 32
_PATTERN = re.compile(r"(/([A-Za-z0-9_.~:@+=-]+|\*))+(/\*\*)?|/\*\*")
_EXAMPLE = "{search: {get: /trips/search}, book: {post: /bookings}}"


def read_events(field: Field | None) -> tuple[UserEvent, ...]:
    """Return the events of the plan, those with mistakes left out, in the order written."""
    found: list[UserEvent] = []
    for name, key, value in field.named(_EXAMPLE) if field else ():
        before = len(value.report.problems)
        good = key.parse(quantities.event_name)
        event = _read_event(name, value)
        if good is None or event is None or len(value.report.problems) != before:
            continue
        other = next((o for o in found if o.method == event.method and set(o.paths) & set(event.paths)), None)
        if other is None:
            found.append(event)
        else:
            both = min(set(other.paths) & set(event.paths))
            value.problem(f"{both} is {other.name} already; a request is one event")
    if field and len(found) > EVENTS_MAX:
        field.problem(f"are {len(found)}; a plan has {EVENTS_MAX} at most, because the proxy tries one after the other")
    return tuple(found)


def check_events(field: Field | None, events: Sequence[UserEvent], metrics: Sequence[Metric]) -> None:
    """Note events that no metric looks at."""
    used = {name for m in metrics if m.behaviour for name in (m.behaviour.of, m.behaviour.event)}
    for name, key, _ in field.named(_EXAMPLE) if field else ():
        if name in {event.name for event in events} - used:
            key.problem(f"is looked at by no metric; write one such as `conversion: {{of: {name}, reaches: ...}}`")


def check_windows(field: Field | None, metrics: Sequence[Metric], phases: Sequence[Phase]) -> None:
    """Note windows that no phase is long enough for: a change of the split ends those that are open."""
    longest = max((phase.soak_s for phase in phases), default=0.0)
    named = {name: value for name, _, value in field.named("{failure_rate: ...}")} if field and phases else {}
    for metric in metrics:
        rule = metric.behaviour
        if rule is not None and metric.name in named and rule.within_s + GRACE_S >= longest:
            named[metric.name].problem(
                f"counts within {duration(rule.within_s)}, and no phase soaks longer than {duration(longest)}: "
                "a window that is open when users are assigned anew counts for nobody; write a shorter one"
            )


def _read_event(name: str, value: Field) -> UserEvent | None:
    if isinstance(value.node, Text):
        text = value.text()
        if text is not None and text != POSTED:
            value.problem(f"{text!r} says not how it is heard of; write {POSTED}, or {{get: /trips/search}}")
        return UserEvent(name=name) if text == POSTED else None
    section = value.section(EVENT_KEYS, "{get: /trips/search}")
    if section is None:
        return None
    if len(section.values) != 1:
        value.problem(f"has {len(section.values)} methods; write one of {', '.join(EVENT_KEYS)}, with its paths")
        return None
    ((method, paths_field),) = section.values.items()
    listed = paths_field.items("[/trips/search]") if isinstance(paths_field.node, Items) else (paths_field,)
    read = [item.parse(_path) for item in listed]
    paths = tuple(dict.fromkeys(path for path in read if path is not None))
    return UserEvent(name=name, method=method.upper(), paths=paths) if paths else None


def _path(text: str) -> str:
    segments = text.split("/")
    if not _PATTERN.fullmatch(text) or "." in segments or ".." in segments or len(text) > 200:
        raise ValueError(
            f"{text!r} is no path of requests; write such as /trips/search, /trips/*/book (any one segment) or "
            "/bookings/** (anything below), without a query"
        )
    return text

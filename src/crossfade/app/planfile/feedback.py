"""The `feedback` section: what users are asked, and how long what they say is kept."""

from __future__ import annotations

import re

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field
from crossfade.core.feedback import TOPIC_MAX
from crossfade.core.plan import FeedbackRules

FEEDBACK_KEYS = ("topics", "ask", "keep", "framed by")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_EXAMPLE = "{topics: [weather, prices], ask: 10%, keep: 90d}"


def read_feedback(field: Field | None) -> FeedbackRules:
    """Return the section; the usual one where it is left out or wrong."""
    usual = FeedbackRules()
    section = field.section(FEEDBACK_KEYS, _EXAMPLE) if field else None
    if section is None:
        return usual
    topics = section.get("topics")
    found = [item.parse(_topic) for item in topics.items("[weather, prices]")] if topics else []
    pages = section.get("framed by")
    origins = [item.parse(_origin) for item in pages.items("[https://www.example.com]")] if pages else []
    return FeedbackRules(
        topics=tuple(dict.fromkeys(topic for topic in found if topic is not None)),
        ask=section.parse("ask", quantities.share, usual.ask),
        framed_by=tuple(dict.fromkeys(origin for origin in origins if origin is not None)),
        keep_s=section.parse("keep", quantities.positive_duration, usual.keep_s),
    )


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError(f"{text!r} is no origin; write such as https://www.example.com")
    return text


def _topic(text: str) -> str:
    if not text.strip() or len(text) > TOPIC_MAX or not text.isprintable():
        raise ValueError(f"{text[:TOPIC_MAX]!r} is no topic; write a word such as weather")
    return text

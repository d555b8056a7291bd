"""The feedback form: a page of its own that works without script, for whoever has a link made for them.

A link names its user and is signed, so nobody speaks for another, and it ends. Nothing else is let in by it.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated
from urllib.parse import parse_qs

import orjson
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from crossfade.app.feedback import Given
from crossfade.app.web.access import Caller
from crossfade.app.web.door import FORM
from crossfade.app.web.feedback import AskLink, Flood, FormLink, given_to
from crossfade.app.web.problems import Json
from crossfade.app.web.served import Carried, Named, Needs, Served
from crossfade.core.access import Role
from crossfade.core.feedback import COMPLAINT_MAX, plain
from crossfade.errors import CrossfadeError, UsageError

_MAC_BYTES = 16
_LINK_MAX = 2000
_NOTHING: Mapping[str, str] = MappingProxyType({"rating": "", "topic": "", "complaint": ""})
_ENVIRONMENT = Environment(
    loader=PackageLoader("crossfade.app.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def sealed(key: bytes, rollout: str, user: str, until: float) -> str:
    """Return a link's end that names a user of a rollout until a time (real seconds since the epoch)."""
    told = orjson.dumps([rollout, user, int(until)])
    return urlsafe_b64encode(_mac(key, told) + told).decode().rstrip("=")


def opened(key: bytes, rollout: str, text: str) -> tuple[str, float] | None:
    """Return the user and the end of a link that `sealed` made for this rollout; None where it did not."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        told = raw[_MAC_BYTES:]
        if not hmac.compare_digest(raw[:_MAC_BYTES], _mac(key, told)):
            return None
        of, user, until = orjson.loads(told)
    except ValueError:
        return None
    return (user, float(until)) if of == rollout else None


def _mac(key: bytes, told: bytes) -> bytes:
    return hmac.digest(key, b"feedback form\0" + told, hashlib.sha256)[:_MAC_BYTES]


def add_form(app: FastAPI, router: APIRouter, served: Served, flood: Flood) -> None:
    """Add the form, and where links to it are made."""

    @router.post("/feedback/links", tags=["feedback"], response_model=FormLink)
    async def link(
        request: Request, carried: Named, about: AskLink, _: Annotated[Caller, Depends(Needs(Role.OPERATOR))]
    ) -> Json:
        """Make a link to the form for one user. Whoever has it speaks for them until it ends."""
        request.state.unnoted = True
        until = served.wall.now() + about.for_s
        end = sealed(await carried.form_key.to_sign(), carried.name, about.user, until)
        return Json({"path": f"{FORM}{carried.name}/{end}", "until": until})

    @app.get(FORM + "{name}/{link}", include_in_schema=False)
    async def show(name: str, link: str) -> HTMLResponse:
        try:
            carried, _ = await _who(served, name, link)
        except HTTPException as error:
            return _closed(error)
        return _page(carried)

    @app.post(FORM + "{name}/{link}", include_in_schema=False)
    async def take(request: Request, name: str, link: str) -> HTMLResponse:
        try:
            carried, user = await _who(served, name, link)
        except HTTPException as error:
            return _closed(error)
        said = _NOTHING
        try:
            said = _read(await request.body())
            if len(said["complaint"]) > COMPLAINT_MAX:
                return _page(carried, 422, said, trouble=f"Please write at most {COMPLAINT_MAX:,} characters.")
            flood.take(carried.name, user)
            await given_to(carried, _given(user, said))
        except HTTPException as error:
            trouble = "That is more than can be taken now. Please try again later."
            return _page(carried, error.status_code, said, trouble=trouble)
        except UsageError:
            trouble = "Please choose how content you are, or write what was wrong."
            return _page(carried, 422, said, trouble=trouble)
        except CrossfadeError:
            trouble = "It could not be kept just now. Please send it again in a minute."
            return _page(carried, 503, said, trouble=trouble)
        return _page(carried, done=True)


async def _who(served: Served, name: str, link: str) -> tuple[Carried, str]:
    carried = served.rollouts.get(name)
    found = await _opened(carried, link) if carried is not None and len(link) <= _LINK_MAX else None
    if carried is None or found is None:
        raise HTTPException(404, "This link opens no form. Please ask whoever gave it to you for another.")
    if served.wall.now() >= found[1]:
        raise HTTPException(410, "This link has ended. Please ask whoever gave it to you for another.")
    return carried, found[0]


async def _opened(carried: Carried, link: str) -> tuple[str, float] | None:
    """Return the user and the end of a link of ours; HTTPException 503 while nobody can tell whether it is one."""
    for key in carried.form_key.here():
        if found := opened(key, carried.name, link):
            return found
    try:
        other = await carried.form_key.elsewhere()
    except CrossfadeError:
        raise HTTPException(503, "This link can't be looked up just now. Please open it again in a minute.") from None
    return None if other is None else opened(other, carried.name, link)


def _read(body: bytes) -> Mapping[str, str]:
    """Return what is written in a form; UsageError where it can't be read."""
    try:
        fields = parse_qs(body.decode(), max_num_fields=10)
    except ValueError:
        raise UsageError("the form can't be read") from None
    # browsers send line ends as two characters, and count them as one
    return {name: fields.get(name, [""])[0].replace("\r\n", "\n") for name in _NOTHING}


def _given(user: str, said: Mapping[str, str]) -> Given:
    """Return what a form says; UsageError where it says nothing that can be meant."""
    rating = said["rating"]
    if rating not in ("", "1", "2", "3", "4", "5"):
        raise UsageError("the form says what it does not offer")
    return Given(user=user, rating=int(rating) if rating else None, complaint=said["complaint"], topic=said["topic"])


def _page(
    carried: Carried, status: int = 200, said: Mapping[str, str] = _NOTHING, *, done: bool = False, trouble: str = ""
) -> HTMLResponse:
    """Return the form with what was `said` in it already, or thanks."""
    rules = carried.controller.plan.feedback
    shown = {name: plain(text[:COMPLAINT_MAX]) for name, text in said.items()}
    told = {"done": done, "trouble": trouble, "topics": rules.topics, "most": COMPLAINT_MAX, "said": shown}
    return _html(status, {"closed": False, **told}, rules.framed_by)


def _closed(why: HTTPException) -> HTMLResponse:
    return _html(why.status_code, {"closed": True, "trouble": why.detail}, ())


def _html(status: int, told: Mapping[str, object], framed_by: Sequence[str]) -> HTMLResponse:
    ancestors = " ".join(framed_by) or "'none'"
    security = {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
        f"frame-ancestors {ancestors}",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(_ENVIRONMENT.get_template("feedback.html").render(told), status, security)

"""Outcomes and feedback that were answered with success are counted once, whatever becomes of the process."""

from __future__ import annotations

import json

import pytest
from tests.e2e.site import Clients, Site, post, until

pytestmark = pytest.mark.slow


def _seen(site: Site, name: str = "conversion", what: str = "n") -> int:
    metrics = json.loads(site.verb("metrics", "-o", "json"))
    read = next(one for one in metrics if one["name"] == name)["reading"]
    return int(read[f"{what}1"] + read[f"{what}2"]) if read else 0


def _complain(site: Site, users: range) -> set[int]:
    """Return what the users' complaints are answered with."""
    control = json.loads((site.home / "control.json").read_text())
    path, token = f"{control['url']}/api/v1/rollouts/trips-v2/feedback", control["token"]
    return {post(path, token, {"user": f"u{n:04d}", "complaint": "<b>wrong</b>", "rating": 1}) for n in users}


def test_a_killed_controller_loses_no_outcome_and_counts_none_twice(site: Site) -> None:
    site.plan.write_text(
        site.plan.read_text().replace("metrics:\n", "metrics:\n  conversion: {outcome: conversion}\n", 1)
    )
    site.services.start()
    quick = ("--tick", "1", "--lateness", "1")
    site.serve(*quick)
    site.promote_to("half")
    posted = site.folder / "outcomes.jsonl"
    with Clients(site):
        until("a tick of the phase is over", lambda: site.status()["requests"]["v2"] > 0)
        total = 0
        for batch in range(3):
            rows = [{"metric": "conversion", "user": f"u{batch}-{n}", "value": n % 2} for n in range(500)]
            posted.write_text("".join(json.dumps(row) + "\n" for row in rows))
            assert "500" in site.verb("outcomes", "post", str(posted))
            total += 500
            assert _complain(site, range(batch * 20, batch * 20 + 20)) == {200}
            site.kill()
            site.serve(*quick)
            assert _complain(site, range(batch * 20 + 20)) == {200}
            assert "repeated" in site.verb("outcomes", "post", str(posted))
            until(f"{total} are counted", lambda wanted=total: _seen(site) == wanted)  # type: ignore[misc]
            until("complaints are counted", lambda wanted=batch: _seen(site, "complaints", "k") == 20 * wanted + 20)  # type: ignore[misc]
        said = json.loads(site.verb("feedback", "-o", "json"))
        assert (len(said), {one["complaint"] for one in said}) == (60, {"<b>wrong</b>"})
        assert "rated it" not in site.verb("feedback")
        assert "1 forgotten" in site.verb("feedback", "forget", "u0007")


def test_what_users_do_at_the_proxy_and_as_posted_outlives_the_controller(site: Site) -> None:
    text = site.plan.read_text().replace("events:\n", "events:\n  book: posted\n", 1)
    metric = "  booked: {of: search, reaches: book, within: 1m}\n"
    site.plan.write_text(text.replace("metrics:\n", f"metrics:\n{metric}", 1))
    site.services.start()
    quick = ("--tick", "10", "--lateness", "1", "--speed", "20")
    site.serve(*quick)
    site.promote_to("half")
    users = [f"u{n:04d}" for n in range(1500, 1560)]  # in no cohort
    until(
        "a tick of the phase is over", lambda: bool(site.ask("u1999")) and sum(site.status()["requests"].values()) > 0
    )
    asked = {user: site.ask(user)[1] for user in ["u1999", *users]}
    until("they are heard of", lambda: sum(site.status()["requests"].values()) > len(users))
    posted = site.folder / "events.jsonl"
    posted.write_text("".join(json.dumps({"event": "book", "user": user, "id": user}) + "\n" for user in users[:30]))
    assert "30" in site.verb("outcomes", "post", str(posted))
    site.kill()
    site.serve(*quick)
    assert "repeated" in site.verb("outcomes", "post", str(posted))
    until("the windows are over", lambda: bool(site.ask("u1999")) and _seen(site, "booked") == len(asked))
    metrics = json.loads(site.verb("metrics", "-o", "json"))
    reading = next(one for one in metrics if one["name"] == "booked")["reading"]
    for version in ("v1", "v2"):
        on = [user for user in asked if asked[user] == version]
        booked = sum(user in users[:30] for user in on)
        assert (reading[f"n{version[1]}"], round(reading[version] * len(on))) == (len(on), booked)

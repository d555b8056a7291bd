"""Notices of a real `serve`: a receiver that fails, a controller that is killed, and a link that asks for login."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
import standardwebhooks
from tests.adapters.receiver import receiving_beside
from tests.e2e.site import Site, until

pytestmark = pytest.mark.slow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_rollback_is_told_after_the_receiver_failed_and_the_controller_was_killed(site: Site, tmp_path: Path) -> None:
    site.services.start()
    (tmp_path / "secret").write_text(SECRET)
    with receiving_beside(503) as receiver:
        with site.plan.open("a") as plan:
            plan.write(
                f"notify: {{on: [phase promoted, rollback], webhook: '{receiver.url}', secret: {{file: secret}}}}\n"
            )
        site.serve("--allow-private-webhooks", "127.0.0.1")
        site.verb("promote", "--reason", "for the test")
        until("the promotion is told", lambda: len(receiver.came) >= 1)
        site.verb("rollback", "--reason", "it looks odd")
        until("trying again", lambda: len(receiver.came) >= 2)
        site.kill()
        failed = {event["id"] for event in receiver.events}
        receiver.came.clear()
        receiver.answer(200)
        site.serve("--allow-private-webhooks", "127.0.0.1")
        until("both arrive", lambda: len(receiver.came) >= 2)
    promoted, back = receiver.events
    assert (promoted["id"] in failed, promoted["data"]["kind"], back["data"]["kind"]) == (
        True,
        "phase promoted",
        "rollback",
    )
    assert "it looks odd" in back["data"]["sentence"]
    for headers, body in receiver.came:
        assert standardwebhooks.Webhook(SECRET).verify(body.decode(), headers)
    with urllib.request.urlopen(back["data"]["link"], timeout=20) as page:
        assert "/login?next=/rollouts/trips-v2" in page.url

"""`crossfade doctor` against what really runs: nothing to mend while it does, and each thing that is broken found."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from tests.e2e.site import Site, until

from crossfade.app.cli import main

pytestmark = pytest.mark.slow


def _found(site: Site) -> list[tuple[str, str, str]]:
    done = CliRunner().invoke(main, ["doctor", str(site.plan), "--state", str(site.state), "-o", "json"])
    data = json.loads(done.stdout)
    assert done.exit_code == (1 if data["counts"]["FAIL"] else 0), done.stderr
    return [(f["check"], f["status"], f["found"]) for f in data["findings"]]


def _wrong(site: Site) -> dict[str, str]:
    """Return what is to be mended, by check; the machine's own limits are none of this test's."""
    machine = ("open files", "disk", "haproxy", "state")
    return {c: found for c, status, found in _found(site) if status in ("WARN", "FAIL") and c not in machine}


def test_what_runs_is_found_well_and_what_was_broken_is_named(site: Site) -> None:
    site.services.start()
    site.serve()
    until("nothing is to be mended", lambda: not _wrong(site))
    told = [found for _, status, found in _found(site) if status == "OK"]
    for part in ("is ready, and leads", "lives and answers", "it carries what the store wants: ", "listens at "):
        assert any(part in found for found in told), (part, told)

    site.kill()
    site.verb("rollback", "--direct", code=0)
    site.services.stop_v2()
    until("the proxy has noticed that V2 is gone", lambda: "holds for down: v2-1" in str(_found(site)))
    wrong = _wrong(site)
    assert wrong.keys() == {"controller", "lease", "upstreams", "proxy"}
    assert "has ended without a word" in wrong["controller"]
    assert "and has ended" in wrong["lease"]
    assert wrong["upstreams"].startswith("V2: can't be connected to")
    carried = [found for check, _, found in _found(site) if check == "proxy" and "the store wants" in found]
    assert "everyone on V1, the store wants" in carried[0]

"""Whatever a plan holds becomes a configuration HAProxy takes, or a refusal that names what to change."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.adapters.haproxy_origin import make_plan

from crossfade.adapters.haproxy.process import find_binary
from crossfade.adapters.haproxy.render import INT_MAP, Tuning, cohort_entries, render, roots
from crossfade.adapters.haproxy.state import (
    Maps,
    decode,
    encode,
    floor,
    parse_ints,
    parse_pairs,
    render_headers,
    render_ints,
    rises,
    rolled_back,
    share_keys,
    steps,
)
from crossfade.core.plan import Api, AssignmentRule, Key, KeySource, Plan, Upstream
from crossfade.core.split import Split, user_hash
from crossfade.errors import ProxyRefusedError, ReadBackError
from crossfade.ports import ProxyState

ODD = st.text(st.sampled_from(list("aZ0-_.#'\"\\ $%{}()[],;:/@\t\n\0ä名&|!<>*?=`~^")), max_size=12)
COHORTS = ("internal", "beta")


def _accepts(config: str, directory: Path) -> bool:
    """Have HAProxy read the configuration beside minimal maps."""
    (directory / "haproxy.cfg").write_text(config)
    (directory / INT_MAP).write_text("split 0\n")
    (directory / "hdr.map").write_text("Sunset -\n")
    (directory / "retired.map").write_text("retired 0\n")
    done = subprocess.run(
        [find_binary(), "-c", "-f", "haproxy.cfg"],
        cwd=directory,
        env={"CROSSFADE_BIND": "127.0.0.1:1"},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0 and b"WARNING" not in done.stderr


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd=ODD, place=st.sampled_from(["cohort", "header", "cookie", "path", "secret", "member", "upstream"]))
def test_odd_characters_are_taken_or_refused(tmp_path: Path, odd: str, place: str) -> None:
    """Never a configuration that HAProxy refuses or warns of, whatever a name holds."""
    keys = {
        "header": (Key(KeySource.HEADER, odd),),
        "cookie": (Key(KeySource.COOKIE, odd),),
    }
    plan = make_plan(
        ["127.0.0.1:1"],
        [odd if place == "upstream" else "127.0.0.1:2"],
        user=keys.get(place, (Key(KeySource.ADDRESS),)),
        cohorts={odd if place == "cohort" else "beta": frozenset({odd if place == "member" else "m"})},
        paths=(f"/v1/{odd}" if place == "path" else "/v1/x", "/v2/x"),
        secret=odd if place == "secret" else "",
    )
    try:
        rendered = render(plan, collector="127.0.0.1:3")
    except ProxyRefusedError as refused:
        message = str(refused)
    else:
        message = ""
    if message:
        assert repr(odd)[1:-1] in message or place in {"path", "secret"}
        assert "\n" not in message
        return
    (tmp_path / "cohort.map").write_text(rendered.cohort_map)
    assert _accepts(rendered.config, tmp_path)


@pytest.mark.parametrize(
    ("v1", "v2", "expected"),
    [
        ("/v1/trips/search", "/v2/trips/search", ("/v1", "/v2")),
        ("/api/v1/search", "/api/v2/search", ("/api/v1", "/api/v2")),
        ("/trips", "/v2/trips", ("/trips", "/v2/trips")),
        ("/old/search", "/new/find", ("/old/search", "/new/find")),
        ("/same", "/same", ("/same", "/same")),
    ],
)
def test_the_roots_of_versions(v1: str, v2: str, expected: tuple[str, str]) -> None:
    """Their common end belongs to neither root."""
    made = roots(Api(entry="/e", v1=Upstream(path=v1, upstreams=()), v2=Upstream(path=v2, upstreams=())))
    assert made == expected


def test_what_a_plan_does_not_use_is_not_evaluated() -> None:
    """No cookie, no second key, no cohorts, no override: no rule for them."""
    bare = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"], user=(Key(KeySource.HEADER, "X-User-Id"),))
    config = render(bare, collector="127.0.0.1:3").config
    for unused in ("req.cook", "%[src]", "cohort.map", "override", "secret", "http-request allow if { var", "rand("):
        assert unused not in config
    # everyone on one side: the rules end before the key is even looked for
    assert config.index("http-request allow") < config.index("req.fhdr(X-User-Id,1)") < config.index("xxh64")


def test_another_plan_has_another_digest() -> None:
    """So that a running proxy with an older configuration is noticed; its split is no part of it."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"], port=8100)
    digest = render(plan, collector="127.0.0.1:3").digest
    assert digest == render(plan, collector="127.0.0.1:3").digest
    assert digest != render(plan, collector="127.0.0.1:4").digest
    assert digest != render(plan, collector="127.0.0.1:3", listen="127.0.0.1:8101").digest
    assert digest != render(plan, collector="127.0.0.1:3", tuning=Tuning(server_s=5)).digest


def test_a_member_of_several_cohorts_is_in_the_first() -> None:
    rule = AssignmentRule(user=(), salt=2**64 - 1, cohorts={"a": frozenset({"x", "y z"}), "b": frozenset({"x", ""})})
    x, y, new = (user_hash(user, rule.salt) for user in ("x", "y z", "new"))
    assert cohort_entries(rule, {}) == [(str(x), "split.a"), (str(y), "split.a")]
    assert cohort_entries(rule, {x: "", new: "b"}) == [(str(y), "split.a"), (str(new), "split.b")]


def test_the_secret_does_not_show(tmp_path: Path) -> None:
    """Neither in a plan's text nor in what is refused."""
    plan: Plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"], secret="hush")
    assert "hush" not in repr(plan)


SHARES = st.integers(0, 10_000)
STATES = st.builds(
    ProxyState,
    generation=st.integers(0, 2**63 - 1),
    split=st.builds(Split, everyone=SHARES, cohorts=st.dictionaries(st.sampled_from(COHORTS), SHARES)),
    killed=st.booleans(),
    v1_headers=st.dictionaries(
        st.sampled_from(["Sunset", "Deprecation", "Link"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60),
    ),
)


def _encoded(state: ProxyState) -> Maps:
    return encode(state, COHORTS, {})


def _parsed(maps: Maps) -> Maps:
    return Maps(
        ints=parse_ints(render_ints(maps.ints), "ints"), headers=parse_pairs(render_headers(maps.headers), "headers")
    )


@given(STATES)
def test_a_state_survives_the_maps(state: ProxyState) -> None:
    assert decode(_parsed(_encoded(state))) == state


@given(STATES, STATES)
def test_no_prefix_of_a_change_puts_more_on_v2(old: ProxyState, new: ProxyState) -> None:
    """Neither in memory at any step, nor on disk before memory has it."""
    before, after = _encoded(old), _encoded(new)
    keys = share_keys(after.ints)
    limit = {key: max(before.share(key), after.share(key)) for key in keys}
    written = floor(before, after)
    assert all(written.share(key) <= min(before.share(key), after.share(key)) for key in keys)
    memory = dict(before.ints)
    for name, key, value in steps(before, after):
        if name == INT_MAP:
            memory[key] = int(value)
        now = Maps(ints=memory)
        assert all(now.share(key) <= limit[key] for key in keys)
        assert all(written.share(key) <= now.share(key) for key in keys)
    assert memory == dict(after.ints)
    assert rises(before, after) == any(after.share(key) > before.share(key) for key in keys)


@given(STATES, st.none() | st.integers(0, 2**40))
def test_a_rollback_leaves_nobody_and_outdates_everybody_before(state: ProxyState, generation: int | None) -> None:
    after = decode(rolled_back(_encoded(state), generation))
    assert after.killed
    assert after.split.everyone == 0
    assert set(after.split.cohorts.values()) <= {0}
    assert after.generation == max(state.generation, generation or 0)
    assert after.v1_headers == state.v1_headers


@pytest.mark.parametrize(
    "state",
    [
        ProxyState(generation=-1),
        ProxyState(generation=2**63),
        ProxyState(generation=1, split=Split(cohorts={"nosuch": 1})),
        ProxyState(generation=1, v1_headers={"X-Other": "1"}),
        ProxyState(generation=1, v1_headers={"Sunset": "a\r\nSet-Cookie: b"}),
        ProxyState(generation=1, v1_headers={"Sunset": ""}),
        ProxyState(generation=1, v1_headers={"Sunset": "ä"}),
        ProxyState(generation=1, v1_headers={"Link": "x" * 1001}),
    ],
)
def test_states_that_can_not_be_kept_are_refused(state: ProxyState) -> None:
    with pytest.raises(ProxyRefusedError):
        _encoded(state)


@given(st.text(max_size=60))
def test_garbage_is_no_state(text: str) -> None:
    """Whatever a map holds, reading it gives a state or a ReadBackError."""
    with suppress(ReadBackError):
        decode(Maps(ints=parse_ints(text, "x"), headers={}))

"""What the commands do, apart from `serve` and `demo`. Each imports what it needs: a verb must be there at once."""

from __future__ import annotations

import asyncio
import getpass
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from crossfade.app import render
from crossfade.app.client import Client, local_target, remote_target
from crossfade.app.control import find_folder, read_control
from crossfade.app.terminal.escaped import escaped
from crossfade.errors import ConflictError, CrossfadeError, UnreachableError, UsageError

_LOOK_S = 0.25
URL = "crossfade.url"
"""Under which the context of a command holds where a controller elsewhere answers."""


def say(output: str, data: Any, text: str) -> None:
    """Print what a command has to say, for people or for programs; nothing in it acts on the terminal."""
    if output == "json":
        click.echo(json.dumps(data, indent=2, default=str))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(json.loads(json.dumps(data, default=str)), sort_keys=False), nl=False)
    else:
        click.echo(escaped(text, keep="\n"))


def client_of(rollout: str | None, state: Path) -> Client:
    """Return the controller that is meant: --url's, or the one of this machine; UsageError or UnreachableError."""
    remote = elsewhere(rollout)
    return remote or Client(local_target(read_control(find_folder(state, rollout))))


def elsewhere(rollout: str | None = None) -> Client | None:
    """Return the controller that --url names; None where it doesn't."""
    url = click.get_current_context().meta.get(URL)
    return Client(remote_target(url, rollout)) if url else None


def check(path: Path, output: str) -> None:
    """Print what a plan says; PlanError with every mistake where it can't be meant."""
    from crossfade.adapters.system import SystemClock
    from crossfade.app import views
    from crossfade.app.planfile import load_plan, summarise

    plan = load_plan(path)
    say(output, views.plan_view(plan), summarise(plan, now=SystemClock().now()))


def schema() -> None:
    """Print the JSON Schema."""
    from crossfade.app.planfile import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def whois(user: str, *, plan: Path | None, phase: str | None, state: Path, rollout: str | None, output: str) -> None:
    """Tell which version a user gets now, or in the phases of a plan file."""
    if plan is None:
        if phase is not None:
            raise UsageError("--phase goes with --plan; without it the answer is about the phase the rollout is in")
        answer = client_of(rollout, state).get(f"/users/{_quoted(user)}")
        say(output, answer, render.whois([answer]))
        return
    from crossfade.app import views
    from crossfade.app.planfile import load_plan

    loaded = load_plan(plan)
    answers = [
        views.whois_view(loaded, user, entry.split, killed=False, phase=entry.name)
        for entry in loaded.phases
        if phase in (None, entry.name)
    ]
    if not answers:
        raise UsageError(f"there is no phase {phase!r}; the plan has {', '.join(p.name for p in loaded.phases)}")
    say(output, answers, render.whois(answers))


def _quoted(user: str) -> str:
    return quote(user, safe="", errors="surrogateescape")


def dashboard(rollout: str | None, state: Path, output: str) -> None:
    """Print where the rollout's page is, with a code that logs in once."""
    client = client_of(rollout, state)
    code = client.general("POST", "/login-codes", {})
    name = client.get("")["rollout"]
    # Behind the #, a code is sent to no server by itself and written into no log.
    url = f"{client.url}/login?next=/rollouts/{quote(name, safe='')}#code={code['code']}"
    say(output, {"url": url, "expires_s": code["expires_s"]}, url)


def verb(name: str, rollout: str | None, state: Path, output: str, reason: str, **more: str | None) -> None:
    """Ask the controller for something and print where the rollout is then."""
    body: dict[str, object] = {"by": person(), "reason": reason}
    body |= {key: value for key, value in more.items() if value is not None}
    client = client_of(rollout, state)
    data = client.post(f"/{name}", body)
    if name == "drill":
        data = _drilled(client, data)
    say(output, data, render.after_verb(name, data))


def brownouts(rollout: str | None, state: Path, output: str) -> None:
    """Print the calendar of brownouts."""
    data = client_of(rollout, state).get("")["brownouts"]
    say(output, data, render.brownouts(data))


def record_rehearsal(client: Client, report: dict[str, Any], reason: str) -> str:
    """Hand a rehearsal's report over to the controller; return where the rollout is then."""
    return render.after_verb("rehearse", client.post("/rehearse", {"by": person(), "reason": reason, "report": report}))


def _drilled(client: Client, data: dict[str, Any]) -> dict[str, Any]:
    """Wait for a drill's end; CrossfadeError where it did not end back on the split."""
    from crossfade.adapters.system import SystemClock

    clock = SystemClock()
    while data["state"] == "drilling":
        asyncio.run(clock.sleep(_LOOK_S))
        data = client.get("")
    if data["state"] in ("rolled_back", "aborted"):
        raise CrossfadeError(f"the drill did not pass, everyone is on V1: {data['rollback_reason']}")
    return data


def retire(
    rollout: str | None,
    state: Path,
    output: str,
    reason: str,
    confirm: str,
    *,
    archive: tuple[str, ...] = (),
    archive_within: str = "10m",
    archive_to: Path | None = None,
    build: str = "",
) -> None:
    """Retire V1, after it was archived where that is asked for.

    Raises UsageError where what was typed to confirm it is not the rollout's name, and what an archive raises.
    """
    client = client_of(rollout, state)
    now = client.get("")
    name = now["rollout"]
    if confirm != name:
        raise UsageError(f"no rollback undoes it: to retire V1 of {name}, say --confirm {name}, not {confirm!r}")
    if not archive and (archive_to is not None or build):
        raise UsageError("--archive-to and --build go with --archive PROGRAM")
    digest = None
    if archive:
        if now["state"] != "completed":
            raise ConflictError(f"cannot retire a rollout that is {now['state']}; it must be completed")
        plan = None if elsewhere(rollout) else Path(read_control(find_folder(state, rollout)).plan)
        folder = (archive_to or Path(f"{name}-archive")).absolute()
        digest = _archived(client, folder, plan, build, (archive, archive_within))
    verb("retire", rollout, state, output, reason, archive=digest)


def _archived(client: Client, folder: Path, plan: Path | None, build: str, hook: tuple[tuple[str, ...], str]) -> str:
    """Write the archive and have it taken away by `hook`, a program and its limit; return its manifest's digest."""
    from crossfade.adapters.system import SystemClock
    from crossfade.app import farewell
    from crossfade.app.terminal.wait import seconds

    argv, limit_s = hook[0], seconds(hook[1])
    manifest = farewell.write_manifest(client, folder, plan=plan, build=build, made_at=SystemClock().now())
    farewell.run_hook(argv, manifest, limit_s)
    return farewell.digest_of(manifest)


def resurrect(plan: Path, output: str, to: Path | None) -> None:
    """Write the plan that brings a retired V1 back, and say what is to be done with it."""
    from crossfade.app.resurrect import write_resurrection

    written = write_resurrection(plan, to)
    say(
        output,
        {"rollout": written.rollout, "plan": str(written.path), "brings_back_v1_of": written.of},
        f"{written.path} moves clients back to the V1 that {written.of} has retired. Nothing has begun yet:\n"
        "  1. look it over, and start V1's servers\n"
        f"  2. end `crossfade serve` of {written.of}, then: crossfade proxy stop {written.of}\n"
        f"  3. crossfade serve {written.path}",
    )


def rollback(rollout: str | None, state: Path, output: str, reason: str, *, direct: bool) -> None:
    """Roll back through the controller, or at the proxy itself."""
    if not direct:
        try:
            verb("rollback", rollout, state, output, reason)
        except UnreachableError as error:
            raise UnreachableError(f"{error}\nnow: crossfade rollback --direct") from None
        return
    from crossfade.app import bootstrap, granting

    if elsewhere() is not None:
        raise UsageError("--direct speaks to the proxy on its own machine; leave --url out, there")
    folder = find_folder(state, rollout)
    report = asyncio.run(bootstrap.rollback_direct(folder))
    granting.note(state, "rollback --direct", folder.name, reason, failed="" if report.complete else report.sentence)
    say(output, report.as_data(), report.sentence)
    if report.retired:
        raise ConflictError("nothing was changed; see above")
    if not report.complete:
        raise CrossfadeError("not every node confirmed; see above for what was done and what was not")


def stop_proxy(rollout: str | None, state: Path, output: str) -> None:
    """Stop the proxy that serves a rollout."""
    from crossfade.app import bootstrap

    folder = find_folder(state, rollout)
    pid = asyncio.run(bootstrap.stop_proxy(folder))
    say(output, {"rollout": folder.name, "pid": pid}, f"the proxy of {folder.name} (pid {pid}) has stopped")


def post_outcomes(file: Path, rollout: str | None, state: Path, output: str) -> None:
    """Post a file's outcomes and print what became of them."""
    from crossfade.app import posting

    fates = posting.post(file, client_of(rollout, state))
    say(output, dict(fates), ", ".join(f"{count:,} {fate}" for fate, count in fates.items()))


def enrol(file: Path, cohort: str, *, rollout: str | None, state: Path, output: str, reason: str) -> None:
    """Have a file's users join a cohort."""
    from crossfade.app.enrolling import joining_in

    users = joining_in(file)
    body: dict[str, object] = {"cohort": cohort, "users": users, "by": person(), "reason": reason}
    told = client_of(rollout, state).post("/enrolments", body)
    before = f", {told['unchanged']:,} were in it before" if told["unchanged"] else ""
    say(output, told, f"{told['changed']:,} users have joined {cohort}{before}")


def leave(users: tuple[str, ...], rollout: str | None, state: Path, output: str, reason: str) -> None:
    """Have users leave their cohorts."""
    asked = urlencode([("user", user) for user in users] + [("by", person()), ("reason", reason)])
    told = client_of(rollout, state).delete(f"/enrolments?{asked}")
    before = f", {told['unchanged']:,} were in none" if told["unchanged"] else ""
    left = f" {told['cohort']}" if told["cohort"] else ""
    say(output, told, f"{told['changed']:,} users have left{left} and are as everyone else{before}")


def enrolments(rollout: str | None, state: Path, output: str, limit: int) -> None:
    """Print who joined a cohort or left one."""
    found = list(client_of(rollout, state).pages("/enrolments", limit))
    say(output, found, render.enrolments(found))


def person() -> str:
    """Return the user of this machine."""
    try:
        return getpass.getuser()
    except OSError:
        return "unknown"


def export_rollout(rollout: str | None, state: Path, database: str, output: Path | None) -> None:
    """Write a rollout out; what was done is told beside it."""
    from crossfade.app import moving

    moved = moving.export_rollout(state, rollout, database, output)
    click.echo(f"{moved.rollout}: {moved.records:,} records from {moved.where}", err=True)


def import_rollout(file: Path, state: Path, database: str, output: str) -> None:
    """Keep a rollout that was written out."""
    from crossfade.app import moving

    moved = moving.import_rollout(file, state, database)
    data = {"rollout": moved.rollout, "records": moved.records, "database": moved.where}
    say(output, data, f"{moved.rollout}: {moved.records:,} records are kept in {moved.where}")

"""The `crossfade` command. Only click is imported at the start: help and errors must be there at once.

Exit codes: 0 done · 1 failed · 2 the plan or the command is wrong · 3 the rollout is in another state than
assumed · 4 nobody answered · 5 what was waited for has not come in time · 6 it can't come any more · 130 Ctrl-C.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crossfade.app.terminal import options
from crossfade.app.terminal.cli import add_looking

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OUTPUT, _STATE, _URL, _ROLLOUT = options.OUTPUT, options.STATE, options.URL, options.ROLLOUT
_REASON = click.option("--reason", default="", help="Kept in the history.")
_PLAN = click.argument("plan", type=click.Path(path_type=Path))
_ALLOW_PRIVATE = click.option(
    "--allow-private-webhooks",
    default="",
    envvar="CROSSFADE_ALLOW_PRIVATE_WEBHOOKS",
    metavar="HOST,CIDR...",
    help="Hosts, addresses and networks that notices may be posted to though they are not public, or speak no TLS.",
)


class _Number(click.FloatRange):
    """A range of numbers in which neither `nan` nor `inf` lies."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class _Group(click.Group):
    """Turns our errors into one message and the documented exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            sys.exit(0)
        except Exception as error:
            from crossfade.errors import CrossfadeError

            if not isinstance(error, CrossfadeError):
                raise
            from crossfade.app.terminal.escaped import escaped

            told = escaped(str(error), keep="\n")
            click.echo(told if error.exit_code == 2 else f"crossfade: {told}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="crossfade")
def main() -> None:
    """Move the clients of an HTTP API from V1 to V2 by a written plan."""


# ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────


@main.command()
@_PLAN
@_OUTPUT
def check(plan: Path, output: str) -> None:
    """Read PLAN, report every mistake, or print what it says."""
    from crossfade.app import commands

    commands.check(plan, output)


@main.command()
def schema() -> None:
    """Print the JSON Schema of plan files, for editors."""
    from crossfade.app import commands

    commands.schema()


@main.command()
@click.argument("user")
@click.option("--plan", type=click.Path(path_type=Path), help="Answer from a plan file, for each of its phases.")
@options.phase("Only this phase of the plan file.")
@options.ROLLOUT_NAMED
@_STATE
@_URL
@_OUTPUT
def whois(user: str, plan: Path | None, phase: str | None, rollout: str | None, state: Path, output: str) -> None:
    """Tell which version USER gets, and why."""
    from crossfade.app import commands

    commands.whois(user, plan=plan, phase=phase, state=state, rollout=rollout, output=output)


@main.command()
@_PLAN
@click.option("--rate", type=float, help="Requests per second of all users; default: ten a day of each.")
@click.option("--users", type=click.IntRange(min=2), help="How many; default: the plan's, or as many as the rate asks.")
@click.option("--runs", type=click.IntRange(min=1), default=20, show_default=True, help="Rollouts to simulate.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same gives the same.")
@click.option("--traffic", type=click.Choice(["steady", "diurnal"]), default="steady", show_default=True)
@click.option("--shared-bursts", is_flag=True, help="Outages of both versions, about one a day.")
@click.option("--clustered", type=click.IntRange(1, 1000), default=1, help="Failures per user in trouble.")
@click.option("--chronic", default="0%", help="Users who have 60 % of all failures, such as 1%.")
@click.option("--regions", type=click.IntRange(1, 20), help="Regions of equal size; default: eu, us, asia.")
@click.option(
    "--defect",
    "defects",
    multiple=True,
    metavar="'METRIC=VALUE at PHASE+DURATION [in region R]'",
    help="What goes wrong with V2; may be given again.",
)
@click.option("--against", default="", help="Rivals' rules: flagger,argo,kayenta,growthbook; controls: zscore,raw.")
@click.option("--tick", "tick_s", type=_Number(min=1, max=3600), default=10.0, show_default=True, help="Seconds.")
@click.option("--processes", type=click.IntRange(min=1), help="Default: one per core.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "html"]),
    default="text",
    help="For people, for programs, or one page with plots.",
)
def simulate(plan: Path, output: str, **options: Any) -> None:
    """Carry PLAN out many times on simulated traffic, before the first user is moved."""
    from crossfade.app.simulate.command import run_simulate
    from crossfade.app.simulate.options import SimulateOptions

    run_simulate(SimulateOptions(plan=plan, **options), output)


@main.command()
@_PLAN
@click.option("--users", type=click.IntRange(min=1), help="How many; default: the plan's load.users.")
@click.option("--for", "for_", default="1m", show_default=True, help="How long, such as 5m.")
@click.option("--profile", type=click.Choice(["steady", "peak", "ramp", "spike"]), default="steady", show_default=True)
@click.option("--think", help="Mean time between two requests of a user; default: the plan's load.think.")
@click.option("--rate", help="Requests per second whatever comes back, such as 400/s; default: users wait for answers.")
@click.option("--v2", metavar="SHARE", help="Users who choose V2 themselves, such as 25%; peak's default.")
@click.option("--direct", is_flag=True, help="Ask the services themselves instead of the proxy.")
@click.option("--staff", is_flag=True, help="Ask for V2 as the cohort that a 0% phase puts on V2, through the proxy.")
@click.option("--recording", type=click.Path(path_type=Path), help="Whose busiest hour --profile peak replays.")
@click.option("--target", help="Another address than the plan's proxy: http://HOST:PORT.")
@click.option("--may-load", metavar="HOST:PORT", help="The word that another --target is yours to load.")
@click.option(
    "--timeout", "timeout_s", type=_Number(min=0.1, max=600), default=10.0, show_default=True, help="Seconds."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of what is drawn.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "html"]),
    default="text",
    help="For people, for programs, or one page without scripts.",
)
def load(plan: Path, output: str, **options: Any) -> None:
    """Have many users ask at once, as PLAN says, and hold what comes back against its limits."""
    from crossfade.app.load.command import run_load
    from crossfade.app.load.options import LoadOptions

    sys.exit(run_load(LoadOptions(plan=plan, **options), output))


@main.command()
@click.argument("places", nargs=-1, required=True, metavar="PLAN | V1 V2")
@click.option("--prefix", metavar="V1=V2", help="What paths begin with, such as /v1=/v2; a plan says it itself.")
@click.option("--ask", multiple=True, metavar="PATH", help="One of V1's paths, whose real answers the page shows.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "html", "markdown"]),
    default="text",
    help="For people, for programs, or the page that tells V1's clients what changes.",
)
def contract(output: str, **options: Any) -> None:
    """Compare V1's and V2's OpenAPI: V2 may add, and must not change or remove."""
    from crossfade.app.contract.command import ContractOptions, run_contract

    sys.exit(run_contract(ContractOptions(**options), output))


@main.command()
@_PLAN
@click.option("--requests", type=click.Path(path_type=Path), help="Recorded requests; default: what the load asks.")
@click.option("--follow", type=click.Path(path_type=Path), help="Access log that is being written: ask what it gets.")
@click.option("--sample", metavar="SHARE", help="Share of the log's requests, such as 10%; default: all.")
@click.option("--rate", help="Questions a second, such as 20/s; default: the plan's mirror.rate.")
@click.option("--for", "for_", help="How long, such as 5m; default: until the verdict is certain.")
@click.option("--v1", metavar="URL", help="Where V1 answers; default: the plan's upstreams.")
@click.option("--v2", metavar="URL", help="Where V2 answers; default: the plan's upstreams.")
@click.option(
    "--timeout", "timeout_s", type=_Number(min=0.1, max=600), default=10.0, show_default=True, help="Seconds."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of questions that are drawn.")
@_OUTPUT
def mirror(plan: Path, output: str, **options: Any) -> None:
    """Ask recorded questions again of V1 and V2, and compare the answers field by field."""
    from crossfade.app.mirror.command import MirrorOptions, run_mirror

    sys.exit(run_mirror(MirrorOptions(plan=plan, **options), output))


@main.command()
@_PLAN
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["contract", "calls", "mirror", "load", "breakers"]),
    help="This part alone; may be given again. What is left out keeps the rehearsal from a PASS.",
)
@click.option("--resume", is_flag=True, help="Go on with the rehearsal in the folder: parts that have ended stay.")
@click.option("--end-dependency", default="", help="Command that kills the dependency's process, to rehearse a crash.")
@click.option("--start-dependency", default="", help="Command that starts it again.")
@click.option("--requests", type=click.Path(path_type=Path), help="Recorded requests that the mirror asks first.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report; default: rehearsal-ROLLOUT.")
@click.option("--quick", is_flag=True, help="Fewer users and shorter times: shows faults, no evidence.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of questions that are drawn.")
@click.option(
    "--record",
    is_flag=True,
    help="Hand the report over to the controller, for `rehearsal passed`; with --only load for `peak load passed`.",
)
@_STATE
@_URL
@_REASON
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "html"]),
    default="text",
    help="For people, for programs, or one page.",
)
def rehearse(plan: Path, output: str, **options: Any) -> None:
    """Try everything before the first user: contract, calls, mirror, load and breakers, with one report."""
    from crossfade.app.rehearse.command import RehearseOptions, run_rehearse

    sys.exit(run_rehearse(RehearseOptions(plan=plan, **options), output))


# ── running ─────────────────────────────────────────────────────────────────────────────────────────────────


@main.command()
@click.argument("plans", metavar="PLAN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_STATE
@click.option(
    "--api-port",
    type=click.IntRange(0, 65535),
    default=8090,
    show_default=True,
    envvar="CROSSFADE_API_PORT",
    help="Loopback port of the control API; 0 takes a free one.",
)
@click.option(
    "--listen",
    default="",
    envvar="CROSSFADE_LISTEN",
    help="HOST:PORT of the control API instead, such as 0.0.0.0:8090; beyond loopback it wants a token to exist.",
)
@click.option(
    "--host-name", default="", envvar="CROSSFADE_HOST_NAME", help="Names that it answers to, separated by commas."
)
@click.option(
    "--tls-cert", type=click.Path(path_type=Path), envvar="CROSSFADE_TLS_CERT", help="PEM file, chain included."
)
@click.option("--tls-key", type=click.Path(path_type=Path), envvar="CROSSFADE_TLS_KEY", help="PEM file of its key.")
@click.option(
    "--trusted-proxy",
    default="",
    envvar="CROSSFADE_TRUSTED_PROXY",
    help="Address of a proxy in front of it, whose X-Forwarded-For and -Proto are believed.",
)
@click.option(
    "--database", default="", envvar="CROSSFADE_DATABASE", help="URL of the store; default: SQLite in the state."
)
@click.option(
    "--tick",
    "tick_s",
    type=_Number(min=0, min_open=True),
    default=10.0,
    show_default=True,
    envvar="CROSSFADE_TICK_S",
    help="Length of a tick, plan seconds.",
)
@click.option(
    "--lateness",
    "lateness_s",
    type=_Number(min=0),
    default=15.0,
    show_default=True,
    envvar="CROSSFADE_LATENESS_S",
    help="How long a tick waits for its slowest requests, real seconds.",
)
@click.option(
    "--speed",
    type=_Number(min=0, min_open=True),
    default=1.0,
    show_default=True,
    envvar="CROSSFADE_SPEED",
    help="Plan seconds per real second; above 1 only for demonstrations.",
)
@click.option(
    "--lease",
    "lease_s",
    type=_Number(min=1),
    default=5.0,
    show_default=True,
    envvar="CROSSFADE_LEASE_S",
    help="How long a controller may act on its own; another takes over within twice that, real seconds.",
)
@click.option(
    "--keep-days",
    type=_Number(min=0, min_open=True),
    default=90.0,
    show_default=True,
    envvar="CROSSFADE_KEEP_DAYS",
    help="How long ticks and looks of earlier attempts and ended rollouts are kept; events are for good.",
)
@click.option(
    "--public-url",
    default="",
    envvar="CROSSFADE_PUBLIC_URL",
    help="Address by which people reach the control API, for links in notices.",
)
@_ALLOW_PRIVATE
@click.option("--stop-proxy", is_flag=True, help="Stop the proxy too when this ends; by default it goes on serving.")
def serve(plans: tuple[Path, ...], state: Path, stop_proxy: bool, **options: Any) -> None:
    """Carry one or more PLANs out in one process: each with a proxy of its own, all with one control API."""
    from crossfade.app.bootstrap import serve as run
    from crossfade.app.settings import Settings

    run(plans, Settings(state=state, **options), stop_proxy=stop_proxy)


@main.command()
@click.option("--speed", type=_Number(min=0, min_open=True), help="Plan seconds per real second.")
@click.option("--users", type=click.IntRange(min=1), help="How many simulated users.")
@click.option("--rate", type=_Number(min=1), help="Mean requests per real second.")
@click.option("--seed", type=int, help="Of the simulated traffic.")
@click.option("--report", type=click.Path(path_type=Path), help="Where the written report goes.")
@click.option("--no-defect", is_flag=True, help="Leave the scripted V2 defect out.")
@click.option("--no-outage", is_flag=True, help="Leave the weather outage out.")
@click.option("--keep", is_flag=True, help="Keep the demo's folder.")
@click.option("--plain", is_flag=True, help="Lines instead of a live screen.")
def demo(**options: Any) -> None:
    """Watch the shipped plan move 2,000 simulated users from V1 to V2, on real parts."""
    from crossfade.app.demo.command import DemoOptions, run_demo

    sys.exit(run_demo(DemoOptions(**{key: value for key, value in options.items() if value is not None})))


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────

add_looking(main)


_DATABASE = click.option(
    "--database", default="", envvar="CROSSFADE_DATABASE", help="URL of the store, as `serve` was given it."
)


@main.command()
@_ROLLOUT
@_STATE
@_DATABASE
@click.option(
    "--plan", type=click.Path(path_type=Path), help="The rollout's plan; default: the file `serve` was given."
)
@_OUTPUT
def replay(output: str, **options: Any) -> None:
    """Decide again at every look that was kept, and compare."""
    from crossfade.app.replay import ReplayOptions, run_replay

    run_replay(ReplayOptions(**options), output)


@main.group()
def export() -> None:
    """Write out what was kept of a rollout, or what watches it."""


@export.command("ticks")
@_ROLLOUT
@_STATE
@_DATABASE
@click.option("--from-phase", help="Leave out the ticks from before this phase was first entered.")
@click.option("--output", type=click.Path(path_type=Path), help="Where the recording goes; default: standard output.")
def export_ticks(**options: Any) -> None:
    """Write a rollout's ticks as a recording, for `crossfade backtest`."""
    from crossfade.app.export import ExportOptions, run_export

    run_export(ExportOptions(**options))


@export.command("rollout")
@_ROLLOUT
@_STATE
@_DATABASE
@click.option("--output", type=click.Path(path_type=Path), help="Where the rollout goes; default: standard output.")
def export_rollout(rollout: str | None, state: Path, database: str, output: Path | None) -> None:
    """Write everything that is kept of a rollout, for `crossfade import` into another store."""
    from crossfade.app import commands

    commands.export_rollout(rollout, state, database, output)


@export.command("alerts")
@_PLAN
@click.option("--output", type=click.Path(path_type=Path), help="Where the rules go; default: standard output.")
def export_alerts(plan: Path, output: Path | None) -> None:
    """Write alert rules for a Prometheus that scrapes the controllers of PLAN's rollout."""
    from crossfade.app.monitoring.command import run_monitoring

    run_monitoring("alerts", plan, output)


@export.command("grafana")
@_PLAN
@click.option("--output", type=click.Path(path_type=Path), help="Where the dashboard goes; default: standard output.")
def export_grafana(plan: Path, output: Path | None) -> None:
    """Write a Grafana dashboard of PLAN's rollout."""
    from crossfade.app.monitoring.command import run_monitoring

    run_monitoring("grafana", plan, output)


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_STATE
@click.option("--database", default="", help="URL of the store to import into; default: SQLite in the state.")
@_OUTPUT
def import_(file: Path, state: Path, database: str, output: str) -> None:
    """Keep the rollout in FILE, as `crossfade export rollout` wrote it, in a store that has none of that name."""
    from crossfade.app import commands

    commands.import_rollout(file, state, database, output)


@main.command()
@_PLAN
@click.argument("recording", type=click.Path(path_type=Path))
@_OUTPUT
def backtest(plan: Path, recording: Path, output: str) -> None:
    """Tell what PLAN would have decided on the ticks of RECORDING."""
    from crossfade.app.simulate.backtest import run_backtest

    run_backtest(plan, recording, output)


@main.command()
@_STATE
@_URL
@_OUTPUT
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many acts.")
def audit(state: Path, output: str, count: int) -> None:
    """List who asked for what, when, from where and why, done or refused."""
    from crossfade.app import granting

    granting.audit(state, output, count)


# ── acting ──────────────────────────────────────────────────────────────────────────────────────────────────


def _verb(name: str, text: str) -> None:
    @main.command(name, help=text)
    @_ROLLOUT
    @_STATE
    @_URL
    @_OUTPUT
    @_REASON
    def command(rollout: str | None, state: Path, output: str, reason: str) -> None:
        from crossfade.app import commands

        commands.verb(name, rollout, state, output, reason)


_verb("promote", "Enter the next phase now, whatever its gates say.")
_verb("pause", "Stop promotions; the split stays and guardrails are watched.")
_verb("resume", "Allow promotions again.")
_verb("approve", "Approve leaving the present phase.")
_verb("drill", "Roll back on purpose, time it, and return to the split.")
_verb("abort", "Put everybody on V1 and end the rollout for good.")


@main.command()
@_ROLLOUT
@_STATE
@_URL
@_OUTPUT
@_REASON
@options.phase("Start again in this phase; default: the one that was rolled back.")
def retry(rollout: str | None, state: Path, output: str, reason: str, phase: str | None) -> None:
    """Start again after a rollback, with the same assignment and new evidence."""
    from crossfade.app import commands

    commands.verb("retry", rollout, state, output, reason, phase=phase)


@main.group()
def brownout() -> None:
    """Look after the short planned absences of V1."""


@brownout.command("list")
@_ROLLOUT
@_STATE
@_URL
@_OUTPUT
def brownout_list(rollout: str | None, state: Path, output: str) -> None:
    """List the calendar: what is ahead, goes on, and is over."""
    from crossfade.app import commands

    commands.brownouts(rollout, state, output)


@brownout.command("stop")
@_ROLLOUT
@_STATE
@_URL
@_OUTPUT
@_REASON
@click.option("--name", "brownout", metavar="NAME", help="Call off this one; default: the one that goes on.")
def brownout_stop(rollout: str | None, state: Path, output: str, reason: str, brownout: str | None) -> None:
    """End the brownout that goes on at once, or call off one that is planned."""
    from crossfade.app import commands

    commands.verb("stop-brownout", rollout, state, output, reason, brownout=brownout)


@main.command()
@_ROLLOUT
@_STATE
@_URL
@_OUTPUT
@_REASON
@click.option("--confirm", required=True, metavar="NAME", help="The rollout's name once more: it is for good.")
@click.option(
    "--archive",
    multiple=True,
    metavar="PROGRAM [--archive ARG]...",
    help="Archive V1 first: a program, and each of its arguments; the manifest's path is the last. It must end with 0.",
)
@click.option("--archive-within", default="10m", show_default=True, metavar="DURATION", help="How long it may take.")
@click.option(
    "--archive-to", type=click.Path(path_type=Path), help="Folder for manifest and files; default: NAME-archive."
)
@click.option("--build", default="", metavar="ID", help="What V1's build is called, for the manifest.")
def retire(rollout: str | None, state: Path, output: str, reason: str, confirm: str, **archive: Any) -> None:
    """Take V1 out of the proxy, for good: the one step that no rollback undoes."""
    from crossfade.app import commands

    commands.retire(rollout, state, output, reason, confirm, **archive)


@main.command()
@_PLAN
@_OUTPUT
@click.option("--to", type=click.Path(path_type=Path), help="Where it goes, beside PLAN; default: a name of its own.")
def resurrect(plan: Path, output: str, to: Path | None) -> None:
    """Write the plan of a new rollout that brings back the V1 which PLAN's has retired."""
    from crossfade.app import commands

    commands.resurrect(plan, output, to)


@main.command()
@_ROLLOUT
@_STATE
@_URL
@_OUTPUT
@_REASON
@click.option("--direct", is_flag=True, help="At the proxy itself: needs no controller, store or collector.")
def rollback(rollout: str | None, state: Path, output: str, reason: str, direct: bool) -> None:
    """Put every user on V1 now."""
    from crossfade.app import commands

    commands.rollback(rollout, state, output, reason, direct=direct)


@main.command()
@_ROLLOUT
@_STATE
@_OUTPUT
def dashboard(rollout: str | None, state: Path, output: str) -> None:
    """Print a link that opens the rollout's page; it logs in once, within a minute."""
    from crossfade.app import commands

    commands.dashboard(rollout, state, output)


@main.group()
def notify() -> None:
    """Look after who is told of what."""


@notify.command("test")
@_PLAN
@click.option("--rule", help="By this rule alone; default: by each rule of the plan.")
@_ALLOW_PRIVATE
@_OUTPUT
def notify_test(plan: Path, rule: str | None, allow_private_webhooks: str, output: str) -> None:
    """Send a test notice to where PLAN's notices go, and tell what came back."""
    from crossfade.app.notify import run_test

    run_test(plan, rule, allow_private_webhooks, output)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@_ROLLOUT
@click.option("--cohort", required=True, help="Which, of the plan's.")
@_REASON
@_STATE
@_URL
@_OUTPUT
def enrol(file: Path, rollout: str | None, cohort: str, reason: str, state: Path, output: str) -> None:
    """Have the users in FILE join a cohort: KEY or KEY,TIME OF CONSENT a line; all of them, or nobody."""
    from crossfade.app import commands

    commands.enrol(file, cohort, rollout=rollout, state=state, output=output, reason=reason)


@main.command()
@click.argument("users", nargs=-1, required=True, metavar="USER...")
@options.ROLLOUT_NAMED
@_REASON
@_STATE
@_URL
@_OUTPUT
def leave(users: tuple[str, ...], rollout: str | None, reason: str, state: Path, output: str) -> None:
    """Have each USER leave their cohort: at once they are as everyone else."""
    from crossfade.app import commands

    commands.leave(users, rollout, state, output, reason)


@main.command()
@_ROLLOUT
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="So many at most.")
@_STATE
@_URL
@_OUTPUT
def enrolments(rollout: str | None, limit: int, state: Path, output: str) -> None:
    """List who joined a cohort, or left one, beside those that the plan names."""
    from crossfade.app import commands

    commands.enrolments(rollout, state, output, limit)


@main.group()
def outcomes() -> None:
    """Hand over what users made of the answers."""


@outcomes.command("post")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@_ROLLOUT
@_STATE
@_URL
@_OUTPUT
def outcomes_post(file: Path, rollout: str | None, state: Path, output: str) -> None:
    """Post the outcomes in FILE: CSV with a head, or one JSON object a line; - reads from the standard input."""
    from crossfade.app import commands

    commands.post_outcomes(file, rollout, state, output)


@main.group()
def token() -> None:
    """Say who may do what over the control API."""


@token.command("create")
@_STATE
@_URL
@_OUTPUT
@click.option("--name", required=True, help="Stands in the history beside what is done with it.")
@click.option(
    "--role",
    required=True,
    type=click.Choice(["viewer", "operator", "admin"]),
    help="viewer looks; operator also promotes, pauses, approves, retries, rolls back; admin also aborts and grants.",
)
@click.option("--expires", default="", metavar="DURATION", help="Such as 12h or 30d; default: when it is revoked.")
def token_create(state: Path, output: str, name: str, role: str, expires: str) -> None:
    """Make a token and print it, this once."""
    from crossfade.app import granting

    granting.create(state, output, name=name, role=role, expires=expires)


@token.command("list")
@_STATE
@_URL
@_OUTPUT
def token_list(state: Path, output: str) -> None:
    """List the tokens; their secrets are not kept."""
    from crossfade.app import granting

    granting.listed(state, output)


@token.command("revoke")
@click.argument("name")
@_STATE
@_URL
@_OUTPUT
def token_revoke(name: str, state: Path, output: str) -> None:
    """Revoke the token NAME at once, with the sessions that were opened with it."""
    from crossfade.app import granting

    granting.revoke(state, output, name)


@main.group()
def proxy() -> None:
    """Look after the proxy process itself."""


@proxy.command("stop")
@_ROLLOUT
@_STATE
@_OUTPUT
def proxy_stop(rollout: str | None, state: Path, output: str) -> None:
    """Stop a rollout's proxy after its clients are finished."""
    from crossfade.app import commands

    commands.stop_proxy(rollout, state, output)

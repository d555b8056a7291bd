"""A plan as an HAProxy configuration: pure text in, text out.

Nothing that a plan does not use is evaluated for a request: no cookie key, no cohort lookup, no override, and no
hash while everyone is on the same side. Names that go into the configuration are checked rather than escaped,
because HAProxy has three levels of quoting and a refused name is clearer than a proxy that reads it differently.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from crossfade.core.brownout import calendar
from crossfade.core.plan import Api, AssignmentRule, ClientsRule, Key, KeySource, Plan, Unattended, UserEvent
from crossfade.core.split import user_hash
from crossfade.errors import ProxyRefusedError

V1_HEADERS = ("Deprecation", "Sunset", "Link", "Brownout")
"""The response headers of V1's answers that can be set while the proxy runs."""

CONFIG = "haproxy.cfg"
INT_MAP = "int.map"
HEADER_MAP = "hdr.map"
COHORT_MAP = "cohort.map"
EXEMPT_MAP = "exempt.map"
"""Ids of exempt clients in base64, which needs no quoting."""
RETIRED_MAP = "retired.map"
"""Apart from the integers, so that whoever writes those, however late, can't bring V1 back."""
RUNTIME_SOCKET = "haproxy.sock"
FALLBACK_SOCKET = "fallback.sock"
ATTENDED_SOCKET = "attended.sock"
"""Where the proxy asks whether a controller looks after it."""
ATTENDED = "attended"
"""What it is answered."""
WATCHED, WATCHER = "crossfade", "controller"
"""Backend and server under which HAProxy keeps count of that, and tells of it."""
GENERATION = "generation"
KILL = "kill"
HEADERS = "headers"
SPLIT = "split"
RETIRED = "retired"
ROLLED_BACK = "rolled-back"
"""The last generation that may not raise any more, because a rollback switch was thrown; -1 where none was."""
ROLLBACKS = "rollbacks"
"""How often a rollback switch was thrown; only switches write it, so an apply under way can notice them."""
BY_ITSELF = "by-itself"
"""The value of `rolled-back` that the proxy set by itself, because nobody looked after it; -1 where it never did."""
BROWNOUT = "brownout"
"""Backend that answers those whom a brownout meets."""
BESIDE = "beside"
"""Backend of V1 for requests that are no part of the migration, and tell what a user does."""
BROWNOUT_UNTIL = "brownout-until"
"""Plan time at which a brownout ends; 0: none goes on."""
BROWNOUT_ENDS = "brownout-ends"
"""The same as the proxy's own clock shows it: it ends by that, whoever is there."""
BROWNOUT_SHARE = "brownout-share"
BROWNOUT_SALT = "brownout-salt"
BROWNOUT_BODY = "brownout-body"
BIND_VARIABLE = "CROSSFADE_BIND"
"""Environment variable with the address, or fd@N, that HAProxy takes its clients from."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PATH = re.compile(r"(/[A-Za-z0-9_.~:@+=-]+)+")
_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_METHOD = re.compile(r"[A-Z]{3,10}")
_SECRET = re.compile(r"[\x21-\x7e]{1,256}")

_PROBLEMS = {
    502: ("Bad Gateway", "the service gave no valid answer"),
    503: ("Service Unavailable", "the service can not be reached"),
    504: ("Gateway Timeout", "the service did not answer in time"),
}

# The hash is unsigned and HAProxy's integers are not. The sign bit (0 or 1) times a number that is 2^64 mod 10000
# (1616) and big enough to lift any negative hash but the lowest few above 0, which the last addition does.
_SIGN = f"and({-(2**63)}),div({-(2**63)})"


def _bucket(name: str) -> str:
    """Return the bucket of a hash in a variable."""
    return f"var({name},0),{_SIGN},mul({2**63 - 4192}),add({name}),mod(10000),add(10000),mod(10000)"


_RETIRED_ACL = f"  acl retired str({RETIRED}),map_str_int({RETIRED_MAP},0) -m int 1"
_LAYOUT = "brownouts"
"""What the maps have held since when: a running proxy with other keys is replaced."""
_TOLD_AT_ALL = f"{{ str({HEADERS}),map_str_int({INT_MAP},0) -m int 1 }}"
_UNTOLD = "  http-response allow if { var(txn.exempt) -m bool }"
_OWN_LINKS = "add-header"
"""A version may have links of its own, such as to pages."""
_LOG_BYTES_MAX = 2048
_FACTS_BYTES_MAX = 400  # x3 url-encoded, with region and client x3, stays below the line's limit
_NAME_BYTES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What an operator may want to change; times in the proxy's real seconds."""

    connect_s: float = 1.0
    server_s: float = 10.0
    """How long a version may take to answer."""
    client_s: float = 30.0
    keep_alive_s: float = 60.0
    connections_max: int = 4096
    threads: int = 1
    ring_bytes: int = 32 * 1024 * 1024
    """Telemetry kept while the collector is away: about 120,000 requests."""
    syslog: str = ""
    """Socket of the system's log, which is told when no controller looks after the proxy; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Everything HAProxy reads that follows from the plan alone."""

    config: str
    cohort_map: str
    """Of the plan's own members."""
    cohorts: tuple[str, ...]
    listen: str
    digest: str
    """Of `config`; the running process reports it, so that another configuration is noticed."""


def render(plan: Plan, *, collector: str, listen: str | None = None, tuning: Tuning | None = None) -> Rendered:
    """Return the configuration for a plan, with telemetry going to `collector` (host:port).

    Raises ProxyRefusedError naming what can not be written into a configuration: a path, header, cohort name,
    address or secret with characters outside of those its message lists.
    """
    tuning = tuning or Tuning()
    listen = _address("api.listen", listen or plan.api.listen)
    cohorts = tuple(_checked("cohort name", name, _NAME, "letters, digits, . _ -") for name in plan.assignment.cohorts)
    body = "\n".join(
        [
            *_ring(_address("collector", collector), tuning),
            *_defaults(tuning),
            *_attended(plan.unattended, tuning),
            *_frontend(plan, tuning),
            *_brownout(plan),
            *_v1(plan),
            *_beside(plan),
            *_v2(plan),
            *_fallback(),
        ]
    )
    digest = hashlib.sha256(f"{_LAYOUT}\n{listen}\n{tuning}\n{body}".encode()).hexdigest()[:32]
    config = "\n".join([*_global(digest, listen, tuning), body, ""])
    return Rendered(
        config=config,
        cohort_map=render_cohorts(cohort_entries(plan.assignment, {})),
        cohorts=cohorts,
        listen=listen,
        digest=digest,
    )


def render_cohorts(entries: Sequence[tuple[str, str]]) -> str:
    """Return the cohort map: one line a member, `hash split.<cohort>`."""
    return "".join(f"{user} {share}\n" for user, share in entries)


def cohort_entries(rule: AssignmentRule, enrolled: Mapping[int, str]) -> list[tuple[str, str]]:
    """Return (hash, `split.<cohort>`) of every member, each once; someone in several is in the first.

    enrolled: cohorts by hash (empty: none) in the place of what the plan says.

    The hash is the one that gives the bucket: it is at hand for each request, needs no quoting whatever the key
    holds, and keeps keys out of the proxy's files.
    """
    seen: set[str] = set()
    entries: dict[int, str] = {}
    for name, members in rule.cohorts.items():
        entries |= {user_hash(member, rule.salt): name for member in sorted(members - seen) if member}
        seen |= members
    return [(str(user), f"split.{name}") for user, name in (entries | dict(enrolled)).items() if name]


def roots(api: Api) -> tuple[str, str]:
    """Return the prefixes under which V1 and V2 are served: their paths without what they end in together.

    `/v1/trips/search` and `/v2/trips/search` are served under `/v1` and `/v2`; paths that share everything or
    leave one of them without a prefix are their own roots.
    """
    v1, v2 = api.v1.path.split("/"), api.v2.path.split("/")
    while len(v1) > 1 and len(v2) > 1 and v1[-1] == v2[-1]:
        v1.pop()
        v2.pop()
    if len(v1) == 1 or len(v2) == 1:
        return api.v1.path, api.v2.path
    return "/".join(v1), "/".join(v2)


def _checked(what: str, value: str, pattern: re.Pattern[str], allowed: str) -> str:
    if not pattern.fullmatch(value):
        raise ProxyRefusedError(f"{what} {value!r} can't be used at HAProxy: write it with {allowed} only")
    return value


def _problem(status: int, title: str, detail: str) -> str:
    text = f'{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}"}}'
    return f"status {status} content-type application/problem+json string '{text}'"


def _address(what: str, value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise ProxyRefusedError(f"{what} {value!r} is no host:port such as 127.0.0.1:8100")
    return value


def _path(what: str, value: str) -> str:
    return _checked(what, value, _PATH, "a leading / and letters, digits, _ . ~ : @ + = -")


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _signed(bits: int) -> int:
    """Return 64 bits as the signed integer that HAProxy takes them for."""
    return bits - 2**64 if bits >= 2**63 else bits


def _global(digest: str, listen: str, tuning: Tuning) -> list[str]:
    return [
        f"# written by crossfade for clients at {listen}; changes here are overwritten",
        "global",
        f"  description {digest}",
        f"  nbthread {tuning.threads}",
        f"  maxconn {tuning.connections_max}",
        "  hard-stop-after 30s",
        f"  stats socket unix@{RUNTIME_SOCKET} mode 600 level admin expose-fd listeners",
        "  stats timeout 1h",
        "  tune.pattern.cache-size 0  # our maps are trees: the cache only costs",
        f"  log ring@telemetry len {_LOG_BYTES_MAX} format raw local0 info",
        "",
    ]


def _ring(collector: str, tuning: Tuning) -> list[str]:
    return [
        "ring telemetry",
        "  format raw",
        f"  maxlen {_LOG_BYTES_MAX}",
        f"  size {tuning.ring_bytes}",
        "  timeout connect 1s",
        "  timeout server 10s",
        f"  server collector {collector}",
        "",
    ]


def _defaults(tuning: Tuning) -> list[str]:
    lines = [
        "defaults",
        "  mode http",
        "  option dontlognull",
        "  option redispatch 1",
        "  option idle-close-on-response",
        "  option abortonclose",  # a client that gives up on a hanging V2 must be seen to
        f"  timeout connect {_ms(tuning.connect_s)}",
        f"  timeout server {_ms(tuning.server_s)}",
        f"  timeout client {_ms(tuning.client_s)}",
        f"  timeout http-request {_ms(tuning.client_s)}",
        f"  timeout http-keep-alive {_ms(tuning.keep_alive_s)}",
    ]
    for status, (title, detail) in _PROBLEMS.items():
        lines.append(f"  http-error {_problem(status, title, detail)}")
    return [*lines, ""]


def _attended(unattended: Unattended, tuning: Tuning) -> list[str]:
    """Return the backend that no request goes to: its one server is the controller, which is asked how it does.

    It is down once it gave no answer for the whole time; counted in questions, so that a proxy which was stopped
    itself does not take its own sleep for the controller's.
    """
    every_s = min(1.0, max(0.1, unattended.after_s / 60))
    fall = math.ceil(unattended.after_s / every_s) + 1  # the first silence may come right after the last sign of life
    return [
        f"backend {WATCHED}",
        "  mode tcp",
        *([f"  log {tuning.syslog} daemon notice alert"] if tuning.syslog else []),
        f"  timeout check {_ms(every_s / 2)}",
        "  option tcp-check",
        f"  tcp-check expect string {ATTENDED}",
        f"  server {WATCHER} unix@{ATTENDED_SOCKET} check inter {_ms(every_s)} fall {fall} rise 1",
        "",
    ]


def _alone_rules(unattended: Unattended) -> list[str]:
    """Return the rules that put everyone on V1 and leave the mark of a rollback switch, thrown by nobody's hand.

    The first request that finds the proxy alone throws it, for good: a controller that comes back finds the mark.
    """
    if not unattended.rollback:
        return []
    outdated = f"%[str({GENERATION}),map_str_int({INT_MAP},0),add(1)]"
    count = f"%[str({ROLLBACKS}),map_str_int({INT_MAP},0),add(1)]"
    values = {BY_ITSELF: outdated, ROLLED_BACK: outdated, ROLLBACKS: count, KILL: "1"}  # the kill ends the condition
    return [
        f"  acl alone nbsrv({WATCHED}) eq 0",
        *(
            f"  http-request set-map({INT_MAP}) {key} {value} if alone !killed !retired"
            for key, value in values.items()
        ),
    ]


def _brownout_rules(plan: Plan) -> list[str]:
    """Return the rules that find out whether a brownout meets a request: txn.away, and the seconds left in txn.left.

    It is over once its time is, by the proxy's own clock, and once nobody looks after the proxy; and everyone on V1 is
    a reason against it. Only requests for V1's own paths are asked. Who names neither client nor user is met by one
    that meets everybody.
    """
    if not calendar(plan):
        return []
    client = [plan.assignment.client] if plan.assignment.client else []
    share = f"str({BROWNOUT_SHARE}),map_str_int({INT_MAP},0)"
    spared = " !exempt" if plan.exempts else ""
    salted = f"str({BROWNOUT_SALT}),map({HEADER_MAP}),concat(:,txn.caller)"
    unnamed = "!{ var(txn.caller) -m found }"
    return [
        *_exempt_acl(plan),
        "  acl away var(txn.left) -m int gt 0",
        f"  acl attended nbsrv({WATCHED}) gt 0",
        f"  acl met {_bucket('txn.draw')},sub(txn.away_share) -m int lt 0",
        "  http-request set-var(txn.now) date() if { var(txn.asked) -m found }",
        f"  http-request set-var(txn.left) str({BROWNOUT_ENDS}),map_str_int({INT_MAP},0),sub(txn.now) "
        "if { var(txn.asked) -m found } attended !killed !retired",
        *(
            f"  http-request set-var(txn.caller) {_fetch(key)},word(1,\\n) if away {unnamed}"
            for key in [*client, *_until_address(plan.assignment.user)]
        ),
        f"  http-request set-var(txn.away_share) {share} if away",
        f"  http-request set-var(txn.draw) {salted},xxh64(0) if away",
        f"  http-request set-var(txn.away) bool(true) if away met {{ var(txn.caller) -m found }}{spared}",
        f"  http-request set-var(txn.away) bool(true) if away {{ var(txn.away_share) -m int ge 10000 }}{spared}",
    ]


def _exempt_acl(plan: Plan) -> list[str]:
    """Return the ACL that holds for exempt clients, where there can be any."""
    client = plan.assignment.client
    if client is None or not plan.exempts:
        return []
    return [f"  acl exempt {_fetch(client)},word(1,\\n),base64,map({EXEMPT_MAP}) -m found"]


def _spared(plan: Plan, condition: str) -> list[str]:
    """Return the rules that note in txn.exempt that a client is exempt, for its answer."""
    if not plan.exempts:
        return []
    return [*_exempt_acl(plan), f"  http-request set-var(txn.exempt) bool(true) if {condition} exempt"]


def _fetch(key: Key) -> str:
    """Return HAProxy's expression for a key; of a repeated header the first."""
    if key.source is KeySource.ADDRESS:
        return "src"
    name = _checked(f"{key.source} name", key.name, _FIELD, "letters, digits, _ . -")
    return f"req.fhdr({name},1)" if key.source is KeySource.HEADER else f"req.cook({name})"


def _captures(plan: Plan) -> tuple[list[str], list[str], str, str]:
    """Return declarations, request rules and the two log fields for region and client.

    Declared captures read all headers in one pass and are numbered first; the others are rules. A client that is not
    believed everywhere, or may be named otherwise, is a variable.
    """
    clients = plan.clients  # each field costs every request
    chosen = clients is not None and (clients.by_agent or bool(clients.believed_from))
    wanted = [plan.assignment.region, plan.assignment.client if clients is not None and not chosen else None]
    declared = [key for key in wanted if key is not None and key.source is KeySource.HEADER]
    ruled = [key for key in wanted if key is not None and key.source is not KeySource.HEADER]
    for key in declared:
        _fetch(key)  # for its check
    numbers = {id(key): number for number, key in enumerate([*declared, *ruled])}
    fields = [f"%[capture.req.hdr({numbers[id(key)]}),url_enc]" if key else "-" for key in wanted]
    return (
        [f"  capture request header {key.name} len {_NAME_BYTES_MAX}" for key in declared],
        [
            *(f"  http-request capture {_fetch(key)} len {_NAME_BYTES_MAX}" for key in ruled),
            *(_client_rules(clients, plan.assignment.client) if clients is not None and chosen else ()),
        ],
        fields[0],
        "%[var(txn.client,-)]" if chosen else fields[1],
    )


def _client_rules(clients: ClientsRule, key: Key | None) -> list[str]:
    """Return the rules that set txn.client, url-encoded; the product of a User-Agent stands after an @."""
    cut = f"bytes(0,{_NAME_BYTES_MAX}),url_enc"
    rules = []
    if key is not None:
        near = " ".join(str(ip_network(network)) for network in clients.believed_from)
        believed = f" if {{ src {near} }}" if near else ""
        rules.append(f"  http-request set-var(txn.client) {_fetch(key)},word(1,\\n),{cut}{believed}")
    if clients.by_agent:
        agent = f"req.fhdr(User-Agent,1),word(1,\\ ),{cut}"
        named = "!{ var(txn.client) -m found } { req.fhdr(User-Agent,1),word(1,\\ ) -m found }"
        rules.append(f"  http-request set-var-fmt(txn.client) @%[{agent}] if {named}")
    return rules


def _hashed(key: Key, salt: int, condition: str = "") -> str:
    """Return the rule that sets txn.hash from one key.

    `word` makes text of an address, and of an empty header an absent one: a line feed is in no header.
    """
    return f"  http-request set-var(txn.hash) {_fetch(key)},word(1,\\n),xxh64({_signed(salt)}){condition}"


def _assignment_rules(plan: Plan) -> list[str]:
    """Return the rules that set txn.hash, txn.who (the cohort) and txn.share (V2's basis points for this user).

    Most requests carry the first key, so the others come after an early end.
    """
    rule = plan.assignment
    first, *others = _until_address(rule.user)
    with_cohorts = bool(rule.cohorts)
    found, missing = "if { var(txn.hash) -m found }", " if !{ var(txn.hash) -m found }"
    partial = "{ var(txn.share) -m int 1:9999 }"
    who = f"  http-request set-var(txn.who) var(txn.hash),map({COHORT_MAP})"
    override, stripped = _override_rules(plan.override_secret)
    rules = [*override, *stripped]
    if with_cohorts:
        share = f"  http-request set-var(txn.share) var(txn.who,split),map_str_int({INT_MAP},0)"
        rules += [_hashed(first, rule.salt), who, share, *_overridden(plan)]
    else:
        share = f"  http-request set-var(txn.share) str(split),map_str_int({INT_MAP},0)"
        # everyone is on one side: no key, no hash, unless it tells who does something
        early = [] if seen_events(plan) else [f"  http-request allow if !{partial}"]
        rules += [share, *_overridden(plan), *early, _hashed(first, rule.salt)]
    if others:
        rules += [f"  http-request allow {found}"]
        rules += [_hashed(key, rule.salt, missing if number else "") for number, key in enumerate(others)]
        if with_cohorts:
            kept = " if !{ var(txn.override) -m found }" if plan.override_secret else ""
            rules += [who, f"  http-request set-var(txn.share) var(txn.who),map_str_int({INT_MAP}){kept}"]
    if not _everyone_has_a_key(plan):
        rules += [f"  http-request set-var(txn.share) int(0){missing} {partial}"]
    return rules


def _until_address(keys: Sequence[Key]) -> list[Key]:
    """Return the keys up to the address, which everyone has."""
    end = next((number for number, key in enumerate(keys) if key.source is KeySource.ADDRESS), len(keys))
    return list(keys[: end + 1])


def _everyone_has_a_key(plan: Plan) -> bool:
    return any(key.source is KeySource.ADDRESS for key in plan.assignment.user)


def _switching_rules(plan: Plan) -> list[str]:
    """Return the rules that choose the backend; no key and a full share only meet where the last rule is needed."""
    gone = "  use_backend v1 if { var(txn.asked) -m found } retired"
    away = [f"  use_backend {BROWNOUT} if {{ var(txn.away) -m bool }}"] if calendar(plan) else []
    beside = [f"  use_backend {BESIDE} if !api {{ var(txn.event) -m found }} !retired"] if seen_events(plan) else []
    rules = [gone, *away, *beside, "  use_backend v2 if below !killed api"]
    if not plan.assignment.cohorts or not _everyone_has_a_key(plan):
        rules.append("  use_backend v2 if { var(txn.share) -m int ge 10000 } !killed api")
    return [*rules, "  use_backend v2 if retired api", "  default_backend v1", ""]


def _override_rules(secret: str) -> tuple[list[str], list[str]]:
    """Return the rules that read a client's choice of version, if it has the secret, and those that remove it."""
    if not secret:
        return [], []
    if not _SECRET.fullmatch(secret):
        raise ProxyRefusedError("the override secret has to be 1 to 256 printable ASCII characters without spaces")
    quoted = re.sub(r'([\\"$])', r"\\\1", secret)
    chosen = "req.fhdr(x-crossfade-version,1)"
    return (
        [
            f'  acl has_secret req.fhdr(x-crossfade-secret,1) -m str -- "{quoted}"',
            f"  acl chooses {chosen} -m str v1 v2",
            f"  http-request set-var(txn.override) {chosen},bytes(1,1) if chooses has_secret !killed",
        ],
        ["  http-request del-header x-crossfade- -m beg"],
    )


def _overridden(plan: Plan) -> list[str]:
    """Return the rule that makes a share of a choice, "1" or "2"; without a choice it does nothing."""
    return ["  http-request set-var(txn.share) var(txn.override),sub(1),mul(10000)"] if plan.override_secret else []


def _frontend(plan: Plan, tuning: Tuning) -> list[str]:
    del tuning
    declared, ruled, region, client = _captures(plan)
    # the frontend's own log counter, not %rt: that one also counts control connections
    fields = [
        "%lc", "%[var(txn.start,-)]", "%b", "%ST", "%[var(txn.us,-)]", "%Ta",
        "%[var(txn.who,split.-),bytes(6)]" if plan.assignment.cohorts else "-",
        "%[var(txn.override,0),bool]" if plan.override_secret else "0",
        "%[var(txn.asked,-)]",
        "%[var(txn.hash,-)]", region, client, "%tsc", "%rc", "%s", "%[capture.res.hdr(0),url_enc]",
        "%[var(txn.event,-)]" if seen_events(plan) else "-",
    ]  # fmt: skip
    acls = [
        f"  acl killed str(kill),map_str_int({INT_MAP},1) -m int 1",
        _RETIRED_ACL,
        f"  acl below {_bucket('txn.hash')},sub(txn.share) -m int lt 0",
        *_within("api", plan.api.entry, *roots(plan.api)),
        *_v1s_own(plan.api),
    ]
    return [
        "frontend unassigned",
        f'  bind "${BIND_VARIABLE}"',
        "  log global",
        f'  log-format "{",".join(fields)}"',
        *declared,
        f"  capture response header Crossfade-Facts len {_FACTS_BYTES_MAX}",
        *acls,
        "  http-request set-var(txn.start) date(0,us)",
        "  http-request set-var(txn.asked) str(v1) if v1s !others",
        *_event_rules(seen_events(plan)),
        *_alone_rules(plan.unattended),
        *_brownout_rules(plan),
        *ruled,
        *_assignment_rules(plan),
        "  http-response set-var(txn.us) date(0,us),sub(txn.start)",
        "  http-response del-header Crossfade-Facts",
        *_switching_rules(plan),
    ]


def seen_events(plan: Plan) -> Sequence[UserEvent]:
    """Return the events of users that requests tell of."""
    return tuple(event for event in plan.events if event.paths)


def _event_rules(events: Sequence[UserEvent]) -> list[str]:
    """Return the rules that note in txn.event what a request is; of several that fit the first."""
    rules = []
    for number, event in enumerate(events):
        plain = [_path("event path", path) for path in event.paths if "*" not in path]
        starred = [_starred(path) for path in event.paths if "*" in path]
        name = f"event{number}"
        rules += [f"  acl {name} path -m str {' '.join(plain)}"] if plain else []
        rules += [f"  acl {name} path -m reg {' '.join(starred)}"] if starred else []
        method = _checked("event method", event.method, _METHOD, "capital letters")
        told = f"str({_checked('event name', event.name, _NAME, 'letters, digits, . _ -')})"
        unless = " !{ var(txn.event) -m found }" if number else ""
        rules.append(f"  http-request set-var(txn.event) {told} if {name} {{ method {method} }}{unless}")
    return rules


def _starred(path: str) -> str:
    """Return a path with stars as a regular expression."""
    below = path.endswith("/**")
    segments = path.removesuffix("/**").split("/")[1:]
    parts = ["[^/]+" if part == "*" else re.escape(_path("event path", f"/{part}")[1:]) for part in segments]
    return f"^{''.join(f'/{part}' for part in parts)}{'/.+' if below else ''}$"


def _within(name: str, *prefixes: str) -> list[str]:
    """Return an ACL that holds for each prefix itself and for everything below it."""
    for prefix in prefixes:
        _path("path", prefix)
    unique = list(dict.fromkeys(prefixes))
    return [
        f"  acl {name} path -m str {' '.join(unique)}",
        f"  acl {name} path -m beg {' '.join(f'{prefix}/' for prefix in unique)}",
    ]


def _below(name: str, root: str, api: Api) -> list[str]:
    """Return an ACL for a version's own paths; a root that is only the start of paths is no path itself."""
    if root in (api.v1.path, api.v2.path):
        return _within(name, root)
    return [f"  acl {name} path -m beg {_path('path', root)}/"]


def _v1s_own(api: Api) -> list[str]:
    """Return the ACLs `v1s`, and `others` for what lies below V1's root and is the entry's or V2's all the same."""
    root, other = roots(api)
    others = [path for path in (api.entry, other) if f"{path}/".startswith(f"{root}/")]
    return [*_below("v1s", root, api), *(_within("others", *others) if others else ["  acl others always_false"])]


def _rewrites(api: Api, target: str, root: str, other: str) -> list[str]:
    """Return the rules that turn the entry path and the other version's paths into this version's.

    The entry itself, which is nearly every request, takes one comparison and a constant; what then lies below
    `root` is ready. Where one root lies below the other, a path may look like both and is the longer one's.
    """
    is_other = "other !own" if root.startswith(f"{other}/") else "other"
    is_own = "own !other" if other.startswith(f"{root}/") else "own"
    rules = [
        f"  acl below_entry path -m beg {_path('path', api.entry)}/",
        *_below("own", root, api),
        *_below("other", other, api),
        f"  http-request set-path {_path('path', target)} if {{ path -m str {api.entry} }}",
        f"  http-request allow if {is_own}",
        f"  http-request set-path {target}%[path,bytes({len(api.entry)})] if below_entry",
    ]
    if root != other:
        rules.append(f"  http-request set-path {root}%[path,bytes({len(other)})] if {is_other}")
    return rules


def _servers(upstreams: tuple[str, ...], prefix: str, options: str) -> list[str]:
    return [
        f"  server {prefix}-{number} {_address('upstream', address)}{options}"
        for number, address in enumerate(upstreams, start=1)
    ]


def _brownout(plan: Plan) -> list[str]:
    """Return the backend that answers whom a brownout meets; a 410 may be kept by caches, this one may not."""
    if not calendar(plan):
        return []
    body = f"%[str({BROWNOUT_BODY}),map({HEADER_MAP}),b64dec]"
    return [
        f"backend {BROWNOUT}",
        f'  http-request return status 410 content-type application/problem+json lf-string "{body}" '
        'hdr Retry-After "%[var(txn.left)]" hdr Cache-Control no-store',
        *(f"  http-after-response {rule}" for rule in _told(plan)),
        "",
    ]


def _told(plan: Plan, *, link: str = "set-header", condition: str = "") -> list[str]:
    """Return the actions that put V1's headers into an answer, as far as there are any."""
    names = [name for name in V1_HEADERS if name != "Brownout" or calendar(plan)]
    values = {name: f"str({name}),map({HEADER_MAP})" for name in names}
    return [
        f"{link if name == 'Link' else 'set-header'} {name} %[{value},b64dec] if{condition} {{ {value} -m len gt 1 }}"
        for name, value in values.items()
    ]


def _v1(plan: Plan) -> list[str]:
    api = plan.api
    root, other = roots(api)
    several = len(api.v1.upstreams) > 1
    lines = [
        "backend v1",
        "  retries 3",
        _RETIRED_ACL,
        f"  http-request return {_problem(410, 'Gone', 'this version of the API was retired; see the Link header')} "
        "if retired",
        *(["  balance roundrobin"] if several else []),
        *_spared(plan, _TOLD_AT_ALL),  # before the rewrites, which may end the rules
        *_rewrites(api, api.v1.path, root, other),
        "  http-request set-log-level silent if !own !other",  # no part of the migration: unchanged and not reported
        "  http-request set-var(txn.foreign) bool(true) if !own !other",
        f"  http-response allow if !{_TOLD_AT_ALL}",
        "  http-response allow if { var(txn.foreign) -m bool }",
        *([_UNTOLD] if plan.exempts else []),
    ]
    lines += [f"  http-response {rule}" for rule in _told(plan, link=_OWN_LINKS)]
    lines += [f"  http-after-response {rule}" for rule in _told(plan, condition=" { status 410 } retired")]
    checks = " check inter 1s fall 2 rise 1" if several else ""
    return [*lines, *_servers(api.v1.upstreams, "v1", checks), ""]


def _beside(plan: Plan) -> list[str]:
    """Return the backend of requests beside the API that are events: V1 has them unchanged, and they are reported."""
    if not seen_events(plan):
        return []
    several = len(plan.api.v1.upstreams) > 1
    servers = [
        f"  server v1-{number} {_address('upstream', address)}{f' track v1/v1-{number}' if several else ''}"
        for number, address in enumerate(plan.api.v1.upstreams, start=1)
    ]
    return [f"backend {BESIDE}", "  retries 3", *(["  balance roundrobin"] if several else []), *servers, ""]


def _v2(plan: Plan) -> list[str]:
    """Return the V2 backend: its servers, and after them V1 by way of the fallback socket.

    `balance first` takes the first server that is up, and after a failed connection another one; several servers
    are spread by rules in front of it. A single one is only given up by its health check: one refused
    connection must not move all of V2's users for a while. Of several, one that refused is left out at once,
    so that a request finds the fallback even where all of them are gone; the spare keeps more than one server
    active, without which HAProxy would wait a second before trying the last.
    """
    api = plan.api
    other, root = roots(api)
    count = len(api.v2.upstreams)
    checks = " check inter 1s fastinter 200ms downinter 300ms fall 2 rise 1"
    lines = [
        "backend v2",
        "  balance first",
        f"  retries {count + 1}",
        *_spared(plan, "{ var(txn.asked) -m found }"),
        *_rewrites(api, api.v2.path, root, other),
    ]
    if count == 1:
        fallbacks = ["fallback"]
    else:
        checks += " observe layer4 error-limit 1 on-error mark-down"
        fallbacks = ["fallback", "fallback-spare"]
        lines += [f"  use-server v2-{n} if {{ rand({count - n + 1}) eq 0 }}" for n in range(1, count + 1)]
    lines += _servers(api.v2.upstreams, "v2", checks)
    if plan.deprecation is not None:  # whoever answers under V1's own paths: they go
        lines += [
            "  http-response allow if !{ var(txn.asked) -m found }",
            "  http-response allow if { srv_name -m beg fallback }",  # V1 has told it
            f"  http-response allow if !{_TOLD_AT_ALL}",
            *([_UNTOLD] if plan.exempts else []),
            *(f"  http-response {rule}" for rule in _told(plan, link=_OWN_LINKS)),
        ]
    return [*lines, *(f"  server {name} unix@{FALLBACK_SOCKET}" for name in fallbacks), ""]


def _fallback() -> list[str]:
    """Return the hop that brings V2's unreachable requests to V1, which undoes the rewriting; it logs nothing."""
    return [
        "frontend fallback",
        f"  bind unix@{FALLBACK_SOCKET} mode 600",
        _RETIRED_ACL,
        f"  http-request return {_problem(503, *_PROBLEMS[503])} if retired",
        "  default_backend v1",
    ]

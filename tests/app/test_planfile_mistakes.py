"""Every mistake is told with its place, the thing, and what would be right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crossfade.app.planfile import json_schema, load_plan
from crossfade.errors import PlanError

CANARY = "{name: canary, split: 5%, cohort: beta, soak: 1w, margin: 2, promote when: [failure_rate on target]}"
HALF = "{name: half, split: 50%, soak: 1w, margin: 1.5, promote when: [stable for 24h, no stuck breaker]}"
FULL_GATES = "promote when: [no v1 requests for 1d, approved by a person]"
GUARD = 'guard: "> 1% and worse than v1 -> rollback"'
FAILURE = 'failure_rate: {baseline: 0.5%, target: "<= 0.5%", guard: "> 1% and worse than v1 -> rollback"}'

DATABASE = "  database_time: {timing: db, guard: monitor}"
QUERIES = "{bad: 'b$version$interval', total: 't$version$interval'}"
SEARCH = "\nevents:\n  search: {get: /search}\n  book: {post: /book}"
CONVERSION = "  conversion: {of: search, reaches: book, guard: monitor}"
PROMETHEUS = "sources: {prometheus: {url: 'http://127.0.0.1:9090'}}"

# (what stands in the plan, what is written instead with ^ where the mistake is told, field, part of the message)
STRUCTURE = [
    ("crossfade: 1", "crossfade: ^2", "crossfade", "write 1"),
    ("rollout: trips", "^rolout: trips", "rolout", "did you mean 'rollout'?"),
    ("rollout: trips", "rollout:^ ", "rollout", "has no value"),
    ("rollout: trips", "rollout: ^a b", "rollout", "such as trips-v2"),
    ("  entry: /trips\n", "  entry: ^trips\n", "api.entry", "begins with /"),
    ("  entry: /trips\n", "  entry: ^/trips search\n", "api.entry", "no path"),
    ("  entry: /trips\n  listen", "  ^listen", "api.entry", "is missing; write `entry: /trips/search`"),
    ("127.0.0.1:8101", "^127.0.0.1", "api.v1.upstreams[0]", "has no port"),
    ("127.0.0.1:8101", "^127.0.0.1:99999", "api.v1.upstreams[0]", "from 1 to 65535"),
    ("[127.0.0.1:8101]", "[^_host:8101]", "api.v1.upstreams[0]", "no host"),
    ("[127.0.0.1:8101]", "^[]", "api.v1.upstreams", "empty list"),
    ("[127.0.0.1:8101]", "^127.0.0.1:8101", "api.v1.upstreams", "write a list: [127.0.0.1:8101]"),
    ("[header X-User-Id, cookie uid, address]", "[^heder X-User-Id]", "assignment.user[0]", "write header X-User-Id"),
    ("[header X-User-Id, cookie uid, address]", "[^header]", "assignment.user[0]", "such as header X-User-Id"),
    ("client: header X-Client-Id", "client: ^address", "assignment.client", "write header X-Region"),
    ("users: 2000", "users: ^many", "assignment.users", "no whole number"),
    ("users: 2000", "users: ^0", "assignment.users", "such as 2000"),
    (FAILURE, "failure_rate: {target: 1%, ^guards: monitor}", "metrics.failure_rate.guards", "did you mean 'guard'?"),
    (FAILURE, "failure_rate: ^0.5%", "metrics.failure_rate", "write a mapping"),
    (GUARD, 'guard: ^"1%"', "metrics.failure_rate.guard", '"> 1% -> rollback"'),
    (GUARD, 'guard: ^"> 1% -> rolback"', "metrics.failure_rate.guard", "did you mean 'rollback'?"),
    (GUARD, 'guard: ^"> 1% and worse than v3 -> rollback"', "metrics.failure_rate.guard", "no guard"),
    ("breaker_open: {", "^Breaker-Open: {", "metrics.Breaker-Open", "such as failure_rate"),
    (CANARY, "^{split: 5%, cohort: beta, soak: 1w}", "phases[1].name", "is missing"),
    (CANARY, "^{name: canary, cohort: beta, soak: 1w}", "phases[1].split", "write `split: 5%`"),
    (CANARY, "{name: canary, split: ^5, soak: 1w}", "phases[1].split", "write 5%"),
    (CANARY, "{name: canary, split: ^five, soak: 1w}", "phases[1].split", "such as 5%"),
    (CANARY, "{name: canary, split: ^105%, soak: 1w}", "phases[1].split", "at most 100%"),
    (CANARY, "{name: canary, split: ^-5%, soak: 1w}", "phases[1].split", "no share"),
    (CANARY, "{name: canary, split: ^{beta: 20%}, soak: 1w}", "phases[1].split", "add `everyone else: 0%`"),
    (CANARY, "{name: canary, split: 5%, soak: ^one week}", "phases[1].soak", "such as 30s, 24h, 3d, 1w 2d"),
    (CANARY, "{name: canary, split: 5%, soak: ^10:30}", "phases[1].soak", "'10:30' is no duration"),
    (CANARY, "{name: canary, split: 5%, soak: ^7}", "phases[1].soak", "'7' is no duration"),
    (CANARY, "{name: canary, split: 5%, soak: 1w, margin: ^1}", "phases[1].margin", "more than 1"),
    (CANARY, "{name: canary, split: 5%, soak: 1w, margin: ^tight}", "phases[1].margin", "such as 1.5"),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, ^promote_when: []}",
        "phases[1].promote_when",
        "did you mean 'promote when'?",
    ),
    (CANARY, "{name: canary, split: 5%, soak: 1w, promote when: ^[]}", "phases[1].promote when", "empty list"),
    (
        HALF,
        "{name: half, split: 50%, soak: 1w, promote when: [^be good]}",
        "phases[2].promote when[0]",
        "`stable for 24h`",
    ),
    (
        HALF,
        "{name: half, split: 50%, soak: 1w, promote when: [^stable fr 24h]}",
        "phases[2].promote when[0]",
        "did you mean `stable for 24h`?",
    ),
    (
        HALF,
        "{name: half, split: 50%, soak: 1w, promote when: [^no critical errors]}",
        "phases[2].promote when[0]",
        "did you mean `no critical errors for 3d`?",
    ),
    (
        HALF,
        "{name: half, split: 50%, soak: 1w, promote when: [^peak load pased]}",
        "phases[2].promote when[0]",
        "did you mean `peak load passed`?",
    ),
    (
        HALF,
        "{name: half, split: 50%, soak: 1w, promote when: [^failure_rate on targt]}",
        "phases[2].promote when[0]",
        "did you mean `failure_rate on target`?",
    ),
    ("phases:\n", "confidence: {false_rollback: ^60%}\nphases:\n", "confidence.false_rollback", "less than 50%"),
    ("phases:\n", "confidence: {burst_tolerance: ^5}\nphases:\n", "confidence.burst_tolerance", "such as 30s"),
    ("phases:\n", "when blind: ^panic\nphases:\n", "when blind", "write `hold`, or `rollback after 15m`"),
    ("phases:\n", "unattended: {after: ^10}\nphases:\n", "unattended.after", "such as 30s"),
    ("phases:\n", "unattended: {after: 1h, then: ^panic}\nphases:\n", "unattended.then", "write `alert`"),
    ("phases:\n", "unattended: ^{then: rollback}\nphases:\n", "unattended.after", "is missing; write `after: 10m`"),
    ("phases:\n", "override secret: ^hunter2\nphases:\n", "override secret", "{file: override-secret}"),
]

MEANING = [
    ("phases:\n", "confidence: {burst_tolerance: ^2h}\nphases:\n", "confidence.burst_tolerance", "write 1m to 1h"),
    ("phases:\n", "unattended: {after: ^4s}\nphases:\n", "unattended.after", "write 5s to 1w"),
    ("phases:\n", "unattended: {after: ^2w}\nphases:\n", "unattended.after", "write 5s to 1w"),
    ("rollout: trips", "rollout: trips\n^rollout: again", "rollout", "written twice, first on line 2"),
    ("listen: 127.0.0.1:8100", "listen: ^127.0.0.1:080", "api.listen", "'080'"),
    (
        "  v2: {path: /v2/trips, upstreams: [127.0.0.1:8102]}",
        "  v2: ^{path: /v1/trips, upstreams: [127.0.0.1:8101]}",
        "api.v2",
        "same as v1",
    ),
    (
        "upstreams: [127.0.0.1:8102]",
        "upstreams: [127.0.0.1:8102, ^127.0.0.1:8102]",
        "api.v2.upstreams[1]",
        "listed twice",
    ),
    (
        "  v2: {path: /v2/trips, upstreams: [127.0.0.1:8102]}",
        "  v2: ^{path: /v2/trips, upstreams: [127.0.0.1:8100]}",
        "api.v2",
        "call itself",
    ),
    (
        "[header X-User-Id, cookie uid, address]",
        "[address, ^cookie uid]",
        "assignment.user[1]",
        "move `address` to the end",
    ),
    ("users: 2000", "users: ^010", "assignment.users", "without a leading 0"),
    ("users: 2000", "users: ^400", "assignment.users", "fewer than the 500 in the cohorts"),
    ("beta: beta.txt", "beta: ^nowhere.txt", "assignment.cohorts.beta", "there is no such file"),
    (
        "beta: beta.txt",
        "beta: beta.txt, ^everyone else: beta.txt",
        "assignment.cohorts.everyone else",
        "outside of all cohorts",
    ),
    (FAILURE, 'failure_rate: {target: ^"<= 300ms"}', "metrics.failure_rate.target", "does not fit a failure rate"),
    (FAILURE, 'failure_rate: {target: ^">= 0.5%"}', "metrics.failure_rate.target", 'write "<= 0.5%"'),
    (
        FAILURE,
        'failure_rate: {target: "<= 0.5%", guard: ^"< 1% -> rollback"}',
        "metrics.failure_rate.guard",
        "would trip when V2 is good",
    ),
    (
        FAILURE,
        'failure_rate: {target: ^"<= 2%", guard: "> 1% -> rollback"}',
        "metrics.failure_rate.target",
        "would trip the guard",
    ),
    (
        FAILURE,
        'failure_rate: {baseline: 2%, guard: ^"> 1% -> rollback"}',
        "metrics.failure_rate.guard",
        "`and worse than v1`",
    ),
    (FAILURE, "failure_rate: {guard: ^open > 5m -> alert}", "metrics.failure_rate.guard", "only a breaker can be open"),
    (FAILURE, "failure_rate: {baseline: ^5}", "metrics.failure_rate.baseline", "write 5% or a fraction"),
    (FAILURE, "failure_rate: {fact: ^errors}", "metrics.failure_rate.fact", "read from the proxy"),
    ('guard: "> 300ms -> hold"', 'guard: ^"> 3% -> hold"', "metrics.latency_p95.guard", "does not fit a latency"),
    ('guard: "> 300ms -> hold"', 'guard: ^"> 300 -> hold"', "metrics.latency_p95.guard", "write 300ms"),
    ("  latency_p95: {", "  ^latency_p00: {", "metrics.latency_p00", "0th percentile"),
    ("guard: open > 5m -> alert", 'guard: ^"> 5% -> rollback"', "metrics.breaker_open.guard", "open > 5m -> alert"),
    (
        "guard: open > 5m -> alert",
        'guard: ^"> 5% and worse than v1 -> hold"',
        "metrics.breaker_open.guard",
        "how much of the time",
    ),
    ("value: hit, guard: monitor", "value: hit, target: ^80%", "metrics.cache_hits.target", 'write ">= 80%"'),
    (
        "{timing: db, guard: monitor}",
        '{timing: db, guard: ^"> 5ms -> rollback"}',
        "metrics.database_time.guard",
        "can't roll back",
    ),
    (
        "  database_time: {timing: db, guard: monitor}",
        "  ^satisfaction: {baseline: 95%}",
        "metrics.satisfaction",
        "written {outcome: satisfaction}",
    ),
    (
        DATABASE,
        "  mood: {fact: mood, ^posted: mood}",
        "metrics.mood.posted",
        "known here: fact, value, breaker, timing, outcome",
    ),
    (DATABASE, "  mood: {of: ^serch, returns within: 1d}", "metrics.mood.of", "write `events: {serch: {get: /...}}`"),
    (DATABASE, f"  mood: {{of: ^serch, reaches: book}}{SEARCH}", "metrics.mood.of", "did you mean 'search'?"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  ^idle: posted", "events.idle", "is looked at by no metric"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  ^Idle: posted", "events.Idle", "such as search"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: ^told", "events.idle", "write posted, or {get: /trips/search}"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: ^{{}}", "events.idle", "write one of get, post, put"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: ^{{get: /a, post: /a}}", "events.idle", "has 2 methods"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: {{get: ^'/a?b=1'}}", "events.idle.get", "without a query"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: {{get: [/a, ^/a/../b]}}", "events.idle.get[1]", "no path of requests"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: {{get: ^/a/**/b}}", "events.idle.get", "no path of requests"),
    (DATABASE, f"{CONVERSION}{SEARCH}\n  idle: ^{{get: [/a, /search]}}", "events.idle", "/search is search already"),
    (DATABASE, f"  mood: {{of: search, reaches: ^search}}{SEARCH}", "metrics.mood.reaches", "what begins the window"),
    (DATABASE, f"  mood: ^{{of: search}}{SEARCH}", "metrics.mood", "says 0 ways to count"),
    (DATABASE, f"  mood: ^{{of: search, reaches: book, sums: book}}{SEARCH}", "metrics.mood", "says 2 ways to count"),
    (DATABASE, f"  mood: ^{{of: search, sums: book}}{SEARCH}", "metrics.mood.up to", "write `up to: 500`"),
    (DATABASE, f"  mood: {{of: search, sums: book, up to: ^5%}}{SEARCH}", "metrics.mood.up to", "such as 500"),
    (DATABASE, f"  mood: {{of: search, sums: book, up to: ^0}}{SEARCH}", "metrics.mood.up to", "such as 500"),
    (
        DATABASE,
        f'  mood: {{of: search, sums: book, up to: 9, guard: ^"< 5 -> hold"}}{SEARCH}',
        "metrics.mood.guard",
        "only compared with V1's",
    ),
    (DATABASE, f"  mood: {{of: search, reaches: book, up to: ^9}}{SEARCH}", "metrics.mood.up to", "does not belong"),
    (
        DATABASE,
        f"  mood: {{of: search, sums: book, up to: 9, baseline: ^4}}{SEARCH}",
        "metrics.mood.baseline",
        "remove",
    ),
    (DATABASE, f"  mood: {{of: search, returns within: ^9w}}{SEARCH}", "metrics.mood.returns within", "1m to 28d"),
    (
        DATABASE,
        f"  mood: {{of: search, returns within: 2d, within: ^1d}}{SEARCH}",
        "metrics.mood.within",
        "said already",
    ),
    (DATABASE, f"  mood: ^{{of: search, reaches: book, within: 1w}}{SEARCH}", "metrics.mood", "no phase soaks longer"),
    (DATABASE, "  mood: {fact: mood, within: ^1d}", "metrics.mood.within", "is about what users do"),
    (DATABASE, "  mood: {outcome: ^Mood!}", "metrics.mood.outcome", "such as conversion"),
    (DATABASE, "  mood: {outcome: mood, target: ^90%}", "metrics.mood.target", 'write ">= 90%"'),
    (DATABASE, '  mood: {outcome: mood, guard: ^"< 4 -> hold"}', "metrics.mood.guard", "write 4% or a fraction"),
    (DATABASE, '  mood: {outcome: mood, guard: ^"< 95 of v1 -> hold"}', "metrics.mood.guard", "`95 times v1`"),
    (DATABASE, '  mood: {outcome: mood, guard: ^"< 95% times v1 -> hold"}', "metrics.mood.guard", "`95% of v1`"),
    (DATABASE, '  mood: {outcome: mood, guard: ^"< 0% of v1 -> hold"}', "metrics.mood.guard", "write 1% to"),
    (DATABASE, '  mood: {outcome: mood, guard: ^"< 105% of v1 -> hold"}', "metrics.mood.guard", "when V2 equals V1"),
    (DATABASE, '  mood: {outcome: mood, guard: ^"> 0.9 times v1 -> hold"}', "metrics.mood.guard", "> 1.2 times v1"),
    (DATABASE, '  mood: {outcome: mood, guard: ^"= 95% of v1 -> hold"}', "metrics.mood.guard", "write < or >"),
    (DATABASE, '  mood: {outcome: mood, target: ^">= 100% of v1"}', "metrics.mood.target", "can't be shown of a V2"),
    (
        DATABASE,
        '  mood: {outcome: mood, guard: ^"< 95% of v1 and worse than v1 -> hold"}',
        "metrics.mood.guard",
        "is no guard",
    ),
    (
        DATABASE,
        '  mood: {outcome: mood, target: ^">= 90% of v1", guard: "< 95% of v1 -> hold"}',
        "metrics.mood.target",
        "would trip the guard",
    ),
    (
        DATABASE,
        '  mood: {outcome: mood, target: ^">= 95% of v1", guard: "< 80% -> hold"}',
        "metrics.mood.target",
        "write both in the same way",
    ),
    (
        DATABASE,
        '  mood: {outcome: mood, target: ^"<= 90%", guard: "< 80% -> hold"}',
        "metrics.mood.target",
        "on the side that the target wants",
    ),
    (FAILURE, 'failure_rate: {guard: ^"> 1.5 times v1 -> hold"}', "metrics.failure_rate.guard", "`and worse than v1`"),
    ('guard: "> 300ms -> hold"', 'guard: ^"> 1.25 times v1 -> hold"', "metrics.latency_p95.guard", "latency_mean"),
    (DATABASE, '  latency_mean: {guard: ^"> 300ms -> hold"}', "metrics.latency_mean.guard", "> 1.25 times v1 -> hold"),
    (DATABASE, '  latency_mean: {target: ^"<= 300ms"}', "metrics.latency_mean.target", "<= 1.1 times v1"),
    (
        DATABASE,
        '  latency_mean: {guard: ^"> 1.25 times v1 -> rollback"}',
        "metrics.latency_mean.guard",
        "can't roll back, a few slow answers sway it",
    ),
    (
        DATABASE,
        f"  errors: {{prometheus: ^{QUERIES}}}",
        "metrics.errors.prometheus",
        "write `sources: {prometheus: {url: http://127.0.0.1:9090}}`",
    ),
    (
        DATABASE,
        f'  errors: {{prometheus: {QUERIES}, guard: ^"> 2% -> rollback"}}\n{PROMETHEUS}',
        "metrics.errors.guard",
        "nobody knows which of the requests it counts were drawn by chance; write hold, alert or monitor",
    ),
    (
        DATABASE,
        f"  errors: {{prometheus: ^{{bad: b$version$interval}}}}\n{PROMETHEUS}",
        "metrics.errors.prometheus.total",
        "is missing",
    ),
    (
        DATABASE,
        f"  errors: {{prometheus: {{bad: ^b$interval, total: t$version$interval}}}}\n{PROMETHEUS}",
        "metrics.errors.prometheus.bad",
        "has no $version, so V1 and V2 would get the same count",
    ),
    (
        DATABASE,
        f"  errors: {{prometheus: {{bad: b$version$interval, total: ^t$version}}}}\n{PROMETHEUS}",
        "metrics.errors.prometheus.total",
        "has no $interval",
    ),
    (
        DATABASE,
        f"  errors: {{prometheus: {{bad: ^b$version$interval$job, total: t$version$interval}}}}\n{PROMETHEUS}",
        "metrics.errors.prometheus.bad",
        "$job is not known here",
    ),
    (
        DATABASE,
        f"  errors: {{prometheus: {{bad: ^b$version$interval$, total: t$version$interval}}}}\n{PROMETHEUS}",
        "metrics.errors.prometheus.bad",
        "write $$ for a $",
    ),
    (
        DATABASE,
        f"  mood: {{outcome: errors}}\n  ^errors: {{prometheus: {QUERIES}}}\n{PROMETHEUS}",
        "metrics.errors",
        "already what another metric counts",
    ),
    ("phases:\n", "sources: ^{}\nphases:\n", "sources.prometheus", "is missing"),
    (
        "phases:\n",
        "sources: {prometheus: {url: 'http://h'}, ^graphite: {}}\nphases:\n",
        "sources.graphite",
        "unknown key",
    ),
    ("phases:\n", "sources: {prometheus: ^{every: 1m}}\nphases:\n", "sources.prometheus.url", "is missing"),
    ("phases:\n", "sources: {prometheus: {url: ^prometheus}}\nphases:\n", "sources.prometheus.url", "no address"),
    ("phases:\n", "sources: {prometheus: {url: ^'http://h:99999'}}\nphases:\n", "sources.prometheus.url", "no address"),
    ("phases:\n", "sources: {prometheus: {url: ^'http://u:p@h'}}\nphases:\n", "sources.prometheus.url", "token: {file"),
    ("phases:\n", "sources: {prometheus: {url: ^'http://h/?q'}}\nphases:\n", "sources.prometheus.url", "more than an"),
    (
        "phases:\n",
        "sources: {prometheus: {url: 'http://h', every: ^1s}}\nphases:\n",
        "sources.prometheus.every",
        "from 5s to 1h",
    ),
    (
        "phases:\n",
        "sources: {prometheus: {url: 'http://h', token: ^hunter2}}\nphases:\n",
        "sources.prometheus.token",
        "{file: prometheus-token}, never the secret itself",
    ),
    (
        "  database_time: {timing: db, guard: monitor}",
        "  ^failure_rat: {guard: monitor}",
        "metrics.failure_rat",
        "did you mean 'failure_rate'?",
    ),
    ("{timing: db, guard: monitor}", "{breaker: db, timing: ^x}", "metrics.database_time.timing", "keep one"),
    (CANARY, "{name: ^internal, split: 5%, soak: 1w}", "phases[1].name", "already on line 22"),
    (CANARY, "{name: canary, split: 5%, cohort: ^b\u0435ta, soak: 1w}", "phases[1].cohort", "there is no cohort"),
    (CANARY, "{name: canary, split: 5%, cohort: ^bet, soak: 1w}", "phases[1].cohort", "did you mean 'beta'?"),
    (CANARY, "{name: canary, split: 5%, cohort: ^internal, soak: 1w}", "phases[1].cohort", "on V2 since a phase at 0%"),
    (CANARY, "{name: canary, split: 5%, users: ^1000, soak: 1w}", "phases[1].users", "5 % of 2,000 are 100"),
    (
        CANARY,
        "{name: canary, split: {betta: 20%, everyone else: 0%}, soak: 1w}".replace("{b", "{^b"),
        "phases[1].split.betta",
        "did you mean 'beta'?",
    ),
    (CANARY, "{name: canary, split: ^0.125%, soak: 1w}", "phases[1].split", "finer than 0.01%"),
    (CANARY, "{name: canary, split: 5%, soak: ^0d}", "phases[1].soak", "no time at all"),
    (CANARY, "{name: canary, split: 5%, soak: ^99w}", "phases[1].soak", "more than a year"),
    (
        CANARY,
        "{name: canary, split: 5%, soak: ^1d, promote when: [stable for 3d]}",
        "phases[1].soak",
        "write soak: 3d or more",
    ),
    (CANARY, "^{name: canary, split: 5%}", "phases[1].soak", "write `soak: 1w`"),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [^no v1 requests for 1d]}",
        "phases[1].promote when[0]",
        "V1 still has users",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [^falure_rate on target]}",
        "phases[1].promote when[0]",
        "did you mean 'failure_rate'?",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [^complaints < 5]}",
        "phases[1].promote when[0]",
        "'complaints' is no metric of the plan",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [^latency_p95 <= 5%]}",
        "phases[1].promote when[0]",
        "does not fit a latency",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [^failure_rate > 1%]}",
        "phases[1].promote when[0]",
        "met when V2 is bad",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [^cache_hits on target]}",
        "phases[1].promote when[0]",
        "write a limit",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [stable, ^stable]}",
        "phases[1].promote when[1]",
        "written twice",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, promote when: [approved by 2 people], then: ^retire v1}",
        "phases[1].then",
        "V1 is retired after the last phase, which canary is not",
    ),
    (
        CANARY,
        "{name: canary, split: 5%, soak: 1w, then: ^rest}",
        "phases[1].then",
        "'rest' is nothing that can follow a phase; write `then: retire v1`",
    ),
    (HALF, "{name: half, split: ^4%, soak: 1w}", "phases[2].split", "falls below the 5 % of phase canary"),
    (
        HALF,
        "{name: half, split: ^{beta: 10%, everyone else: 50%}, soak: 1w}",
        "phases[2].split",
        "beta falls from 20 % (phase canary) to 10 %",
    ),
    (FULL_GATES, "promote when: [^failure_rate on target]", "phases[3].promote when[0]", "nobody to be compared with"),
]


@pytest.mark.parametrize(("old", "new", "field", "part"), STRUCTURE + MEANING)
def test_a_planted_mistake_is_told_at_its_place(desk: Any, old: str, new: str, field: str, part: str) -> None:
    problems, place = desk.planted(old, new)
    assert [place] == [(p.line, p.column) for p in problems], problems
    assert field == problems[0].field
    assert part in problems[0].message


@pytest.mark.parametrize(("old", "new", "field", "part"), STRUCTURE)
def test_a_structural_mistake_is_refused_by_the_schema_too(
    desk: Any, old: str, new: str, field: str, part: str
) -> None:
    read = yaml.load(desk.changed(old, new.replace("^", "")), Loader=_EditorLoader)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read, json_schema())


class _EditorLoader(yaml.SafeLoader):
    """Reads as editors do, who follow YAML 1.2: `10:30` is text."""


_EditorLoader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp) for tag, regexp in resolvers if tag not in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:bool"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_EditorLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^(0|[1-9][0-9]*)$"), list("0123456789"))


def test_the_plan_in_which_they_are_planted_is_right(desk: Any, plan_text: str) -> None:
    assert desk.load(plan_text).name == "trips"
    jsonschema.validate(yaml.load(plan_text, Loader=_EditorLoader), json_schema())


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(desk: Any, plan_text: str) -> None:
    text = (
        plan_text.replace("rollout:", "rolout:")
        .replace("/v1/trips", "v1/trips")
        .replace("soak: 1w, margin: 2", "soak: x, margin: 0")
    )
    problems = desk.problems(text)
    assert [p.field for p in problems] == ["rolout", "api.v1.path", "phases[1].soak", "phases[1].margin"]
    assert str(problems[0]).endswith("plan.yaml:2:1: rolout: unknown key; did you mean 'rollout'?")


def test_places_are_what_an_editor_shows(desk: Any) -> None:
    """Literal numbers, so that the marker of the table above isn't the only witness."""
    problems = desk.problems("crossfade: 1\nrollout: trips\nphases:\n  - {name: a, split: 7}\n")
    places = [(p.line, p.column, p.field) for p in problems]
    assert (4, 22, "phases[0].split") in places
    assert (1, 1, "api") in places


def test_a_cohort_without_the_number_of_users_says_what_to_write(desk: Any, plan_text: str) -> None:
    (problem,) = desk.problems(plan_text.replace("  users: 2000\n", ""))
    assert problem.field == "phases[1].cohort"
    assert "`users: 2000` in assignment" in problem.message


def test_evidence_gates_need_somebody_on_v2(desk: Any) -> None:
    problems, place = desk.planted(
        "{name: internal, split: 0%, cohort: internal, soak: 1w}",
        "{name: none, split: 0%, soak: 1w, promote when: [^failure_rate <= 1%]}",
    )
    assert place == (problems[0].line, problems[0].column)
    assert "nobody is on V2" in problems[0].message


def test_a_staff_phase_has_no_control(desk: Any) -> None:
    problems, _ = desk.planted(
        "{name: internal, split: 0%, cohort: internal, soak: 1w}",
        "{name: internal, split: 0%, cohort: internal, soak: 1w, promote when: [^failure_rate on target]}",
    )
    assert "nobody to be compared with" in problems[0].message


def test_gates_need_what_they_look_at(desk: Any, plan_text: str) -> None:
    without = plan_text.replace("  breaker_open: {breaker: weather, guard: open > 5m -> alert}\n", "")
    assert "watches no breaker" in desk.problems(without)[0].message
    calm = plan_text.replace("-> rollback", "-> hold").replace("no stuck breaker", "no cascading failures")
    assert "no guard rolls back" in desk.problems(calm)[0].message
    aimless = plan_text.replace('target: "<= 0.5%", ', "")
    assert 'target: "<= 0.5%"' in desk.problems(aimless)[0].message


def test_an_inherited_gate_longer_than_the_soak_names_its_phase(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("stable for 24h", "stable for 5d").replace(
        "split: 100%, soak: 1w", "split: 100%, soak: 1d"
    )
    (problem,) = desk.problems(text)
    assert problem.field == "phases[3].soak"
    assert "inherited from phase half" in problem.message


def test_a_bad_phase_does_not_hide_the_mistakes_after_it(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("split: 5%, cohort: beta, soak: 1w", "split: 5, cohort: beta, soak: 7").replace(
        "split: 50%", "split: 50"
    )
    assert [p.field for p in desk.problems(text)] == ["phases[1].split", "phases[1].soak", "phases[2].split"]


FILES = [
    (b"", 1, 1, "is empty"),
    (b"# nothing\n", 1, 1, "is empty"),
    (b"- a\n- b\n", 1, 1, "write a mapping"),
    (b"just words", 1, 1, "write a mapping"),
    (b"crossfade: 1\n\trollout: x\n", 2, 1, "indent with spaces, not tabs"),
    (b"crossfade: 1\napi: {entry: /x\nphases: []\n", 3, 7, "missing comma or bracket"),
    (b"crossfade: 1\nmetrics:\n  a:\n    guard: > 1% -> hold\n", 4, 14, "into quotes"),
    (b"crossfade: 1\nrollout: caf\xe9\n", 2, 13, "byte 0xe9 is not UTF-8"),
    (b"\xff\xfec\x00", 1, 1, "is not UTF-8"),
    (b"crossfade: 1\nrollout: a\x00b\n", 2, 11, "U+0000"),
    (b"a: 1\n---\nb: 2\n", 2, 1, "second document"),
    (b'a: "\\UFFFFFFFF"\n', 1, 7, "is not YAML"),
    (b"%YAML 99999999.1\n---\na: 1\n", 1, 1, "is not YAML"),
    (b"[" * 5000, 1, 25, "nested more than 24 deep"),
    (b"- " * 5000, 1, 49, "nested more than 24 deep"),
    (b"a: [" + b"x," * 30_000 + b"]", 1, 0, "more than 20,000 values"),
    (b"x" * 10_000_000, 1, 1, "longer than 262,144 bytes"),
]


@pytest.mark.parametrize(("data", "line", "column", "part"), FILES)
def test_a_file_that_is_no_plan_gives_one_clear_error(
    desk: Any, data: bytes, line: int, column: int, part: str
) -> None:
    (problem,) = desk.problems(data)
    assert part in problem.message
    assert (line, column or problem.column) == (problem.line, problem.column)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    for path, part in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "a\0b", "can't be read"),
    ):
        with pytest.raises(PlanError, match=part):
            load_plan(path)


def test_anchors_aliases_tags_and_merge_keys_are_refused_where_they_stand(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("rollout: trips", "rollout: &name trips").replace(
        "client: header X-Client-Id", "client: *name"
    )
    text = text.replace("users: 2000", "users: !!int 2000").replace("listen: ", "<<: {}\n  listen: ")
    found = {(p.line, p.column): p.message for p in desk.problems(text)}
    assert "anchors and aliases" in found[2, 10]
    assert "merge keys" in found[5, 3]
    assert "anchors and aliases" in found[11, 11]
    assert "tag" in found[13, 10]


def test_an_alias_bomb_is_no_bomb(desk: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert any("anchors and aliases" in p.message for p in desk.problems("\n".join(lines)))


def test_a_cohort_file_is_read_line_by_line(desk: Any, plan_text: str) -> None:
    (desk.folder / "internal.txt").write_bytes(b"staff-1\n\nok\nbad\x01key\n")
    (problem,) = desk.problems(plan_text)
    assert (Path(problem.file).name, problem.line) == ("internal.txt", 4)
    (desk.folder / "internal.txt").write_bytes(b"staff-1\nstaff-\xe9\n")
    (problem,) = desk.problems(plan_text)
    assert (Path(problem.file).name, problem.line, problem.column) == ("internal.txt", 2, 7)
    (desk.folder / "internal.txt").write_text("# only a comment\n")
    (problem,) = desk.problems(plan_text)
    assert "names nobody" in problem.message
    (desk.folder / "internal.txt").write_text("x" * 513)
    assert "longer than 512 bytes" in desk.problems(plan_text)[0].message


def test_the_override_secret_stands_in_a_file_and_is_never_shown(desk: Any, plan_text: str) -> None:
    text = plan_text + "override secret: {file: secret}\n"
    assert "no such file" in desk.problems(text)[0].message
    (desk.folder / "secret").write_text("short\n")
    (problem,) = desk.problems(text)
    assert "16 to 256" in problem.message
    assert "short" not in problem.message
    (desk.folder / "secret").write_text("0123456789abcdef\n")
    plan = desk.load(text)
    assert plan.override_secret == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(plan)

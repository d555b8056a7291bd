"""Which version has this user? 2,000 times a second by OFREP, beside a health check of the same server as the floor."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.app.serving import TOKEN, asked

RATE = 2_000
SECONDS = 10
CONNECTIONS = 32


def _request(path: str, body: bytes) -> bytes:
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _one(port: int, path: str, number: int, start: float, took: list[float]) -> None:
    """Ask on a connection of its own, each time when it is due, whether the last answer came in time or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in range(RATE * SECONDS // CONNECTIONS):
        due = start + (n * CONNECTIONS + number) / RATE
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        body = b'{"context":{"targetingKey":"u%d"}}' % (n * CONNECTIONS + number) if "ofrep" in path else b""
        writer.write(_request(path, body))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {head!r}")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        took.append(asyncio.get_running_loop().time() - due)
    writer.close()


async def _asking(port: int, path: str) -> list[float]:
    took: list[float] = []
    start = asyncio.get_running_loop().time() + 0.5
    await asyncio.gather(*(_one(port, path, number, start, took) for number in range(CONNECTIONS)))
    return took


def _told(path: str, took: list[float], cpu: float) -> str:
    p50, p99 = np.quantile(took, [0.5, 0.99]) * 1000
    return f"| {path} | {len(took) / SECONDS:,.0f} | {p50:.2f} | {p99:.2f} | {cpu / SECONDS:.0%} |"


async def _serve(ready: asyncio.Future[int]) -> None:
    with TemporaryDirectory() as folder:
        async with asked(Path(folder)) as api:
            ready.set_result(int(api.url.rsplit(":", 1)[1]))
            await asyncio.Event().wait()


def main() -> None:
    """Print the table."""
    import multiprocessing  # noqa: PLC0415 - the server alone needs it

    parent, child = multiprocessing.Pipe()

    def serve() -> None:
        async def run() -> None:
            ready = asyncio.get_running_loop().create_future()
            serving = asyncio.create_task(_serve(ready))
            child.send(await ready)
            await serving

        uvloop.run(run())

    server = multiprocessing.get_context("fork").Process(target=serve, daemon=True)
    server.start()
    port = parent.recv()
    print(
        f"{RATE:,} requests/s for {SECONDS} s on {CONNECTIONS} connections, one process; times from when each was due\n"
    )
    print("| path | answered/s | p50 ms | p99 ms | server CPU |\n|---|---:|---:|---:|---:|")
    for path in ("/healthz", "/ofrep/v1/evaluate/flags/trips-v2"):
        before = _cpu(server.pid)
        took = uvloop.run(_asking(port, path))
        print(_told(path, took, _cpu(server.pid) - before))
    server.terminate()


def _cpu(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()

"""Commands speak to a controller over its loopback API. Plain urllib: a command must start fast."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from crossfade.app.control import Control
from crossfade.errors import ConflictError, CrossfadeError, UnreachableError, UsageError

_BY_STATUS: dict[int, type[CrossfadeError]] = {400: UsageError, 404: UsageError, 409: ConflictError, 422: UsageError}


class Client:
    """Calls one controller."""

    def __init__(self, control: Control, timeout_s: float = 10.0) -> None:
        self._control = control
        self._timeout_s = timeout_s
        # Commands never go through a proxy from the environment: the controller is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        """Return the answer's JSON; raises the error of the tree that the status stands for."""
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, object]) -> Any:
        """The same with a JSON body."""
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: dict[str, object] | None) -> Any:
        url = f"{self._control.url}/api/v1/rollouts/{self._control.rollout}{path}"
        request = urllib.request.Request(  # noqa: S310 - the URL is from our own control file
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._control.token}", "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise _problem(error) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(
                f"the controller of {self._control.rollout} does not answer at {self._control.url} ({reason}); "
                "is `crossfade serve` running? Without it, `crossfade rollback --direct` still works"
            ) from None


def _problem(error: urllib.error.HTTPError) -> CrossfadeError:
    try:
        detail = json.load(error).get("detail") or str(error)
    except ValueError:
        detail = str(error)
    return _BY_STATUS.get(error.code, CrossfadeError)(str(detail))

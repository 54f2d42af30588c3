"""What the fork server accepts as a request for a step."""

from pathlib import Path
from typing import Any

from airgate.contracts.fork_protocol import for_step


class RefusedError(Exception):
    """A request that is not carried out; the text goes back to the client."""


def check(request: dict[str, Any], descriptors: list[int]) -> None:
    """Raise RefusedError unless the request is whole and gives the step only what a step may see."""
    environment, url, cwd = (request.get(name) for name in ("env", "call_url", "cwd"))
    if not isinstance(url, str) or not url or url.startswith("-"):
        raise RefusedError("'call_url' must be the URL of a call.json")
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise RefusedError("'env' must map names to text")
    if foreign := sorted(name for name in environment if not for_step(name)):
        raise RefusedError(f"a step may not see {', '.join(foreign)}. Allowed names: airgate.contracts.fork_protocol.STEP")
    if not isinstance(cwd, str) or not Path(cwd).is_dir():
        raise RefusedError(f"'cwd' must be a folder that exists, not {cwd!r:.200}")
    if len(descriptors) != 2:
        raise RefusedError(f"expected the descriptors of stdout and stderr, got {len(descriptors)}")

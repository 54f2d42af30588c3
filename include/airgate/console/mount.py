"""What the plugin file registers. Every Airflow process imports this, so the console itself comes with the first request."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

PREFIX = "/airgate"


class Console:
    """The console as an ASGI application that is imported when it is first asked for something."""

    def __init__(self) -> None:
        self._app: Callable[..., Awaitable[None]] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Pass the request on."""
        if self._app is None:
            from airgate.console.app import app

            self._app = app
        await self._app(scope, receive, send)


def page_address() -> str:
    """Where a browser finds the page: under the path of `[api] base_url`, which a proxy may have set."""
    return airflow_address() + PREFIX + "/"


def airflow_address() -> str:
    """The path under which a browser finds Airflow's own pages, without a slash at its end."""
    from airflow.configuration import conf

    return urlsplit(str(conf.get("api", "base_url", fallback="/"))).path.rstrip("/")

"""Local ports: chosen once, remembered, and chosen anew only when somebody else has taken one meanwhile."""

import socket
from collections.abc import Container, Iterable

from airgate.platform.layout import Layout
from airgate.platform.private_files import read_json, write_json

PREFERRED = {"airflow": 8080, "mlflow": 5500, "postgres": 54320, "object-store": 9900, "data-server": 9418}
LOCALHOST = "127.0.0.1"


def ensure(layout: Layout, running: frozenset[str] = frozenset()) -> dict[str, int]:
    """One port for each name in PREFERRED, all different.

    A service in `running` is ours and keeps its port; for the others the remembered port is taken if free, then the
    preferred one, then any free one.
    """
    path = layout.home / "ports.json"
    known = {name: int(port) for name, port in read_json(path).items() if name in PREFERRED}
    ports: dict[str, int] = {name: known[name] for name in known if name in running}
    for name, preferred in PREFERRED.items():
        if name not in ports:
            ports[name] = free_port([known.get(name, preferred), preferred], taken=set(ports.values()))
    if ports != known:
        write_json(path, ports)
    return ports


def is_free(port: int) -> bool:
    """True when nothing listens on the port. A socket in TIME_WAIT does not count, for servers reuse it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))  # whatever address: pods may be served at another
        except OSError:
            return False
        return True


def free_port(wanted: Iterable[int] = (), taken: Container[int] = ()) -> int:
    """The first of `wanted` that is free and not in `taken`, else any that the system gives."""
    for port in wanted:
        if port not in taken and is_free(port):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((LOCALHOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port

"""An installation whose steps are pods, and ways to take from under it what it stands on."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.flight.place import Place

from airgate.platform.processes import Processes

NAMESPACE = "airgate-outages"
START = "from airgate.platform import cluster, demo, layout, up; cluster.choose(layout.find()); up.start(demo.prepare_data)"


class PodPlace(Place):
    """The installation under `base`; `processes` are its own."""

    def __init__(self, base: Path, image: str) -> None:
        super().__init__(base)
        (self.home / "ports.json").unlink()  # an installation with a cluster is made one before it is started
        self._image = image
        self.processes = Processes(self.home / "run", self.home / "logs")

    def environment(self) -> dict[str, str]:
        return super().environment() | {"AIRGATE_STEPS_IMAGE": self._image, "AIRGATE_NAMESPACE": NAMESPACE}

    def up(self) -> None:
        """Start it, with the demo's data, and sign everybody in."""
        self.python("-c", START)
        self.sign_in()

    def kill(self, name: str) -> None:
        """SIGKILL for one of its processes."""
        process = self.processes.find(name)
        assert process is not None, f"{name} does not run"
        process.kill()
        process.wait()

    def repair(self) -> None:
        """Start what does not run, as a supervisor would."""
        code, said = self.airgate("up")
        assert code == 0, said


def of_this_machine(api: Any, program: str) -> psutil.Process:
    """The process of a part of the cluster. Skips the test where the cluster is not on this machine or not in plain processes."""
    if os.geteuid() != 0:
        pytest.skip("only root can stop a part of the cluster")
    (node,) = api.list_node().items
    address = next(one.address for one in node.status.addresses if one.type == "InternalIP")
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            pytest.skip(f"the cluster's node {address} is another machine, whose {program} cannot be stopped from here")
    found = [one for one in psutil.process_iter(["name"]) if one.info["name"] == program]
    if len(found) != 1:
        pytest.skip(f"{len(found)} processes of this machine are called {program}")
    return found[0]


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """Let a process do nothing within the block."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@contextmanager
def down(process: psutil.Process) -> Iterator[None]:
    """Kill a process and start it again, as it was, after the block: also where its supervisor left its number in a file."""
    command, folder, environment = process.cmdline(), process.cwd(), process.environ()
    numbers = [path for path in Path(folder).parent.glob("*.pid") if path.read_text().strip() == str(process.pid)]
    output = os.open(Path(f"/proc/{process.pid}/fd/2").readlink(), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    process.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], timeout=30)
    try:
        yield
    finally:
        again = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 start_new_session=True)
        again.returncode = 0  # it outlives the tests, so its Popen object must not complain that it still runs
        os.close(output)
        for path in numbers:
            path.write_text(f"{again.pid}\n")

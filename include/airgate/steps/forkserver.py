"""A warm parent of steps: loads the slow libraries once, then forks a child for each step.

    python -m airgate.steps.forkserver SOCKET [--preload a,b] [--idle-seconds n]

One thread, one loop over a selector; a child's crash is an event like any other. The server holds no credentials: they
come with each request and live in that child alone. It ends on SIGTERM, on a `stop` request, or when nobody needs it.
"""

import gc
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airgate.contracts.fork_protocol import KILL_AFTER_SECONDS, MAX_REQUEST
from airgate.steps import fork_child
from airgate.steps.fork_request import RefusedError, check
from airgate.steps.preload import say

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Who connects and asks for nothing is sent away.
PATIENCE_SECONDS = 10.0


@dataclass
class Child:
    """A running step. `kill_at` is set once it was told to end."""

    pid: int
    pidfd: int
    scratch: Path
    started: float
    kill_at: float | None = None

    def stop(self) -> None:
        """Tell the step and all its processes to end; the loop kills them when they have not."""
        if self.kill_at is None:
            self.kill_at = time.monotonic() + KILL_AFTER_SECONDS
            self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Signal the whole process group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # all of them ended


@dataclass(eq=False)
class Connection:
    """One client. `child` is set once its request was carried out."""

    socket: socket.socket
    since: float
    data: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    child: Child | None = None

    def answer(self, **words: object) -> None:
        """Send a line. A client that is gone has nothing to hear."""
        try:
            self.socket.send(json.dumps(words).encode() + b"\n", socket.MSG_NOSIGNAL)
        except OSError:
            return

    def close_descriptors(self) -> None:
        """Drop the step's stdout and stderr here; the child has its own."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


class Server:
    """Serves one socket until it is told to stop."""

    def __init__(self, listener: socket.socket, lock: int, idle_seconds: float, pools: Any) -> None:
        """`listener` is bound and listening; `lock` is a descriptor held for life; `pools` threadpoolctl's controller."""
        self._listener = listener
        self._lock = lock
        self._idle_seconds = idle_seconds
        self._pools = pools
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._stopping = False
        self._last_use = time.monotonic()
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker, listener):
            end.setblocking(False)

    def serve(self) -> None:
        """Loop until told to stop or idle for too long; every child has ended when this returns."""
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._told_to_stop)
        while not self._stopping or self._children():
            for key, _ in self._selector.select(1.0 if self._connections else min(60.0, self._idle_seconds)):
                key.data()
            self._look_at_the_clock()
        say("ended")

    def _children(self) -> list[Child]:
        return [connection.child for connection in self._connections if connection.child]

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            child = connection.child
            if child and child.kill_at and child.kill_at <= now:
                child.send(signal.SIGKILL)
            if child is None and now - connection.since > PATIENCE_SECONDS:
                self._drop(connection)
        if self._connections:
            self._last_use = now
        elif now - self._last_use >= self._idle_seconds and not self._stopping:
            say(f"idle for {self._idle_seconds:g} s")
            self._stop()

    def _told_to_stop(self) -> None:
        if set(self._wake.recv(64)) & set(STOP_SIGNALS):
            self._stop()

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._selector.unregister(self._listener)
            self._listener.close()
            say(f"stopping, with {len(self._children())} steps running")
            for child in self._children():
                child.stop()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it went away again, or descriptors are short; the loop tries again
        _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            say(f"refused a connection from user id {uid}")
            client.close()
            return
        client.setblocking(False)
        connection = Connection(client, time.monotonic())
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: Connection) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(connection.socket, MAX_REQUEST, 4, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        connection.descriptors += descriptors
        if not data and connection.child:
            # The client closed its side: it no longer wants the step, but may still listen for how it ended.
            self._selector.unregister(connection.socket)
            connection.child.stop()
        elif not data:
            self._drop(connection)
        elif connection.child is None:
            connection.data += data
            self._take_request(connection)

    def _take_request(self, connection: Connection) -> None:
        line, end, _ = connection.data.partition(b"\n")
        try:
            if not end:
                if len(connection.data) >= MAX_REQUEST:
                    raise RefusedError(f"a request has at most {MAX_REQUEST} bytes")
                return
            self._carry_out(connection, line)
        except (RefusedError, OSError) as error:  # the system may be out of processes, descriptors or room
            say(f"refused: {error}")
            connection.answer(error=str(error))
            self._drop(connection)
        finally:
            if connection.child:
                connection.close_descriptors()

    def _carry_out(self, connection: Connection, line: bytes) -> None:
        try:
            request = json.loads(line)
            wish = request["op"]
        except (ValueError, KeyError, TypeError):
            raise RefusedError("a request is a JSON object with 'op'") from None
        if wish == "ping":
            connection.answer(pid=os.getpid(), running=len(self._children()))
        elif wish == "stop":
            connection.answer(pid=os.getpid())
            self._stop()
        elif wish == "run":
            self._start(connection, request)
        else:
            raise RefusedError(f"unknown op {wish!r:.40}. Allowed: ping, run, stop")

    def _start(self, connection: Connection, request: dict[str, Any]) -> None:
        if self._stopping:
            raise RefusedError("the step server is stopping")
        check(request, connection.descriptors)
        scratch = Path(tempfile.mkdtemp(prefix="airgate-fork-", dir=request["env"].get("TMPDIR")))
        stdout, stderr = connection.descriptors
        order = fork_child.Order(request["call_url"], request["env"], request["cwd"], stdout, stderr, scratch)
        try:
            child = self._fork(order)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        connection.child = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(connection, child))
        connection.answer(pid=child.pid)
        say(f"started {child.pid} for {request['call_url']}")

    def _fork(self, order: fork_child.Order) -> Child:
        sys.stdout.flush()
        sys.stderr.flush()
        server = os.getpid()
        # Until the child has its own handlers, a signal to it would be taken for one to the server.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                code = fork_child.CRASHED
                try:
                    self._let_go(order)
                    code = fork_child.run(order, server, self._pools)
                finally:
                    # Not sys.exit: what the server would do at its end is not the child's to do.
                    os._exit(code)
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever is first, the group is there when we signal it
        return Child(pid, pidfd, order.scratch, time.monotonic())

    def _let_go(self, order: fork_child.Order) -> None:
        """In the child: close what is the server's, or a step would hold its socket and its other clients."""
        self._selector.close()
        for end in (self._listener, self._wake, self._waker):
            end.close()
        os.close(self._lock)
        for connection in self._connections:
            connection.socket.close()
            if connection.child:
                os.close(connection.child.pidfd)
            for descriptor in set(connection.descriptors) - {order.stdout, order.stderr}:
                os.close(descriptor)
        gc.enable()

    def _ended(self, connection: Connection, child: Child) -> None:
        # Its group lives on while the child is not reaped, so no other process can have got its number.
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
        child.send(signal.SIGKILL)
        found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        if found is None:
            return
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        how = "exit" if found.si_code == os.CLD_EXITED else "signal"
        say(f"{child.pid} ended: {how} {found.si_status} after {time.monotonic() - child.started:.2f} s")
        shutil.rmtree(child.scratch, ignore_errors=True)
        connection.answer(**{how: found.si_status})
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close_descriptors()
        if connection.socket.fileno() in self._selector.get_map():
            self._selector.unregister(connection.socket)
        connection.socket.close()
        self._connections.discard(connection)


if __name__ == "__main__":
    from airgate.steps.forkserver_main import main

    sys.exit(main())

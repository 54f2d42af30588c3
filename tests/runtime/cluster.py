"""A Kubernetes API server with as much in it as one pod at a time needs, and a kubelet that is a Python function."""

import copy
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlparse

# Given the URL of the call, does the step's work and says how the container ended: exit code and reason, and its termination
# message where it left one.
Kubelet = Callable[[str], tuple[int, str] | tuple[int, str, str]]


BEGIN = "2026-01-09T06:00:00Z"


@dataclass
class Cluster:
    """Pods that are over as soon as they are made, or with `hold` when `finish` is called.

    `refuse` answers creation with these statuses and messages, one each; `vanish` forgets pods; `image_id` is what their
    containers ran; `away` answers so many requests with 503; `log` is every pod's.
    """

    kubelet: Kubelet
    pods: dict[str, Any] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    refuse: list[tuple[int, str]] = field(default_factory=list)
    away: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)
    nodes: list[dict[str, Any]] | None = None
    log: bytes = b"2026-01-09T06:00:00.5Z one line of the step's log\n"
    vanish: bool = False
    hold: bool = False
    image_id: str = ""

    def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        self.created.append(pod)
        pod["metadata"] |= {"uid": "u-1", "creationTimestamp": BEGIN}
        self.pods[pod["metadata"]["name"]] = pod
        pod["status"] = {"phase": "Pending"}
        answer = copy.deepcopy(pod)
        if self.hold:
            pod["status"] = status("Running", {"running": {"startedAt": BEGIN}}, self.image_id)
        else:
            self.finish(pod)
        return answer

    def finish(self, pod: dict[str, Any]) -> None:
        """Let the pod's container do its work and end."""
        code, reason, *message = self.kubelet(pod["spec"]["containers"][0]["args"][0])
        ended = {"exitCode": code, "reason": reason, "startedAt": BEGIN, "finishedAt": BEGIN, "message": "".join(message)}
        pod["status"] = status("Failed" if code else "Succeeded", {"terminated": ended}, self.image_id)


def status(phase: str, state: dict[str, Any], image_id: str) -> dict[str, Any]:
    container = {"name": "base", "image": "i", "imageID": image_id, "ready": False, "restartCount": 0, "state": state}
    return {"phase": phase, "startTime": BEGIN, "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [container]}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Say nothing on stderr."""

    @property
    def cluster(self) -> Cluster:
        return cast("Cluster", self.server.cluster)  # type: ignore[attr-defined]

    def _is_away(self) -> bool:
        if self.cluster.away <= 0:
            return False
        self.cluster.away -= 1
        self._json(503, {"kind": "Status", "message": "apiserver is starting"})
        return True

    def do_GET(self) -> None:
        path = urlparse(self.path).path.strip("/").split("/")
        if self._is_away():
            return
        if path[-1] == "log":
            self._send(200, self.cluster.log, "text/plain")
        elif path[-1] == "nodes":
            self._nodes()
        elif path[-1] == "pods":
            wanted = parse_qs(urlparse(self.path).query).get("labelSelector", [""])[0]
            items = [pod for pod in self.cluster.pods.values() if _matches(pod, wanted)]
            self._json(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
        elif path[-1] == "events":
            self._json(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                             "items": [_event(*one) for one in self.cluster.events]})
        elif path[-1] in self.cluster.pods and not self.cluster.vanish:
            self._json(200, self.cluster.pods[path[-1]])
        else:
            self._json(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "not found"})

    def _nodes(self) -> None:
        if self.cluster.nodes is None:
            self._json(403, {"kind": "Status", "code": 403, "message": "nodes is forbidden"})
        else:
            self._json(200, {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": self.cluster.nodes})

    def do_POST(self) -> None:
        body = self._body()
        if self._is_away():
            return
        if self.cluster.refuse:
            code, message = self.cluster.refuse.pop(0)
            self._json(code, {"kind": "Status", "code": code, "message": message})
        elif body["metadata"]["name"] in self.cluster.pods:
            self._json(409, {"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": "already exists"})
        else:
            self._json(201, self.cluster.create(body))

    def do_PATCH(self) -> None:
        name = urlparse(self.path).path.rsplit("/", 1)[-1]
        self.cluster.pods[name]["metadata"]["labels"] |= self._body()["metadata"]["labels"]
        self._json(200, self.cluster.pods[name])

    def do_DELETE(self) -> None:
        name = urlparse(self.path).path.rsplit("/", 1)[-1]
        self.cluster.deleted.append(name)
        self._json(200, self.cluster.pods.pop(name, {"kind": "Status"}))

    def _body(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def _json(self, status: int, document: Any) -> None:
        self._send(status, json.dumps(document).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):
            self.wfile.write(body)


def _event(reason: str, message: str) -> dict[str, Any]:
    return {"reason": reason, "message": message, "metadata": {"name": reason.lower(), "uid": reason}, "lastTimestamp": BEGIN,
            "involvedObject": {"kind": "Pod"}}


def _matches(pod: dict[str, Any], selector: str) -> bool:
    labels = pod["metadata"]["labels"]
    for part in filter(None, selector.split(",")):
        if part.startswith("!"):
            fits = part[1:] not in labels
        elif "!=" in part:
            fits = labels.get(part.split("!=")[0]) != part.split("!=")[1]
        else:
            fits = labels.get(part.split("=")[0]) == part.split("=")[1]
        if not fits:
            return False
    return True


def serve(cluster: Cluster, folder: Path) -> tuple[ThreadingHTTPServer, Path]:
    """Serve the cluster on a free port; give the server and a kubeconfig that names it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.cluster = cluster  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "kubeconfig"
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
    }))
    return server, config

"""A Kubernetes API server with as much in it as one pod at a time needs, and a kubelet that is a Python function."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlparse

# Given the URL of the call, does the step's work and says how the container ended: exit code and reason.
Kubelet = Callable[[str], tuple[int, str]]


BEGIN = "2026-01-09T06:00:00Z"


@dataclass
class Cluster:
    """Pods that are over as soon as they are made, or with `hold` when `finish` is called.

    `refuse` answers creation with that status; `vanish` forgets pods; `image_id` is what their containers ran.
    """

    kubelet: Kubelet
    pods: dict[str, Any] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    refuse: int = 0
    vanish: bool = False
    hold: bool = False
    image_id: str = ""

    def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        self.created.append(pod)
        pod["metadata"] |= {"uid": "u-1", "creationTimestamp": BEGIN}
        self.pods[pod["metadata"]["name"]] = pod
        if self.hold:
            pod["status"] = _status("Running", {"running": {"startedAt": BEGIN}}, self.image_id)
        else:
            self.finish(pod)
        return pod

    def finish(self, pod: dict[str, Any]) -> None:
        """Let the pod's container do its work and end."""
        code, reason = self.kubelet(pod["spec"]["containers"][0]["args"][0])
        ended = {"exitCode": code, "reason": reason, "startedAt": BEGIN, "finishedAt": BEGIN}
        pod["status"] = _status("Failed" if code else "Succeeded", {"terminated": ended}, self.image_id)


def _status(phase: str, state: dict[str, Any], image_id: str) -> dict[str, Any]:
    container = {"name": "base", "image": "i", "imageID": image_id, "ready": False, "restartCount": 0, "state": state}
    return {"phase": phase, "startTime": BEGIN, "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [container]}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Say nothing on stderr."""

    @property
    def cluster(self) -> Cluster:
        return cast("Cluster", self.server.cluster)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        path = urlparse(self.path).path.strip("/").split("/")
        if path[-1] == "log":
            self._send(200, b"one line of the step's log\n", "text/plain")
        elif path[-1] == "pods":
            wanted = parse_qs(urlparse(self.path).query).get("labelSelector", [""])[0]
            items = [pod for pod in self.cluster.pods.values() if _matches(pod, wanted)]
            self._json(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
        elif path[-1] == "events":
            self._json(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []})
        elif path[-1] in self.cluster.pods and not self.cluster.vanish:
            self._json(200, self.cluster.pods[path[-1]])
        else:
            self._json(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "not found"})

    def do_POST(self) -> None:
        body = self._body()
        if self.cluster.refuse:
            self._json(self.cluster.refuse, {"kind": "Status", "message": "quota exceeded"})
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

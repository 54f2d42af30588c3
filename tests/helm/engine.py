"""Helm, as a program or as the packaged engine that `scripts/helm-engine` finds, behind one call."""

import json
import os
import subprocess
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self

import yaml

RELEASE = "airgate"
NAMESPACE = "airgate-system"
HELLO = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "airgate-tests", "version": "0"}}


class HelmRefused(Exception):
    """What Helm said when it would not."""


class Helm:
    """One Helm. It gets no cluster: no configuration, no home of the user's."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.process: subprocess.Popen[str] | None = None
        self.numbers = count(1)

    def __enter__(self) -> Self:
        """Start the packaged engine, which takes a second, once for all calls."""
        if self.program.name != "helm":
            environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"}
            self.process = subprocess.Popen([str(self.program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True, env=environment)
            self._ask("initialize", HELLO)
            self._tell({"method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            assert self.process.stdin and self.process.stdout
            self.process.stdin.close()  # it leaves then
            self.process.wait(timeout=30)
            self.process.stdout.close()

    def template(self, chart: Path, files: Sequence[Path] = (), *, kube: str = "1.29.0", namespace: str = NAMESPACE) -> str:
        """Render a chart as `helm template` does. Raises HelmRefused."""
        if self.process is not None:
            return self._call("helm_template", {"release_name": RELEASE, "chart": str(chart), "namespace": namespace,
                                                "values_files": [str(file) for file in files], "kube_version": kube})
        done = subprocess.run([self.program, "template", RELEASE, chart, "--namespace", namespace, "--kube-version", kube,
                               *(f"--values={file}" for file in files)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise HelmRefused(done.stderr)
        return done.stdout

    def _call(self, tool: str, arguments: dict[str, Any]) -> str:
        answer = self._ask("tools/call", {"name": tool, "arguments": arguments})
        if "error" in answer:
            raise HelmRefused(answer["error"]["message"])
        text = "\n".join(part["text"] for part in answer["result"]["content"])
        if answer["result"].get("isError"):
            raise HelmRefused(text)
        return text

    def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """JSON-RPC over the engine's standard streams, one message a line (the MCP protocol)."""
        assert self.process and self.process.stdout
        number = next(self.numbers)
        self._tell({"id": number, "method": method, "params": parameters})
        said: dict[str, Any]
        for line in filter(str.strip, self.process.stdout):
            said = json.loads(line)
            if said.get("id") == number:
                return said
        raise HelmRefused(f"the engine left with {self.process.wait()}")

    def _tell(self, message: dict[str, Any]) -> None:
        assert self.process and self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()


def documents(rendered: str) -> list[dict[str, Any]]:
    """The manifests in what was rendered."""
    return [document for document in yaml.load_all(rendered, yaml.CSafeLoader) if document]

"""The `git` program on one repository: without prompts, hooks or signing, bounded in time, no password shown."""

import os
import re
import signal
import subprocess
from pathlib import Path

from airgate.audit.anchors.base import AnchorError

# What says how to reach a server stays; what says which repository to use is for us to say.
_KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_EXEC_PATH", "GIT_SSL_", "GIT_PROXY_", "GIT_HTTP_",
         "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
_WHO = {"NAME": "Airgate audit log", "EMAIL": "audit@airgate.invalid"}
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsync": "all",  # git older than 2.36 does not know it
    "push.gpgSign": "false",
    "commit.gpgSign": "false",
    "push.recurseSubmodules": "no",
}


class Git:
    """Runs git commands in one repository, for the anchor `name`."""

    def __init__(self, name: str, repository: Path, timeout: float) -> None:
        """`timeout` in seconds is for each command."""
        self._name, self._repository, self._timeout = name, repository, timeout

    def __call__(self, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> bytes:
        """Run a command and give what it prints. Raises AnchorError when it fails."""
        code, output, error = self.run(*arguments, stdin=stdin, index=index)
        if code:
            raise self.error(arguments[0], error)
        return output

    def run(self, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> tuple[int, bytes, str]:
        """Run a command and give exit status, output and errors. Raises AnchorError when it cannot run, or takes too long."""
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = ["git", "-C", str(self._repository), *settings, *arguments]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(index),
                start_new_session=True)  # no terminal for ssh to ask at
        except OSError as error:
            raise self.error(arguments[0], f"git cannot be started: {error.strerror}; is it installed?") from None
        with process:
            try:
                output, errors = process.communicate(stdin, self._timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its helpers too: ssh, remote-https
                process.communicate()
                raise self.error(arguments[0], f"no end after {self._timeout:g} s; is the remote reachable?") from None
        return process.returncode, output, errors.decode(errors="replace")

    def error(self, command: str, text: str) -> AnchorError:
        """Make the error that says what git said."""
        said = " ".join(re.sub(r"://\S*@", "://***@", re.sub(r"\?\S+", "?***", text)).split())
        return AnchorError(f"the anchor {self._name}: `git {command}` failed: {said[:500] or 'no reason given'}. The "
                           f"repository is {self._repository}; run git there as this process's user to see more")


def _environment(index: Path | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    ours = {
        "GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", "GCM_INTERACTIVE": "never", "LC_ALL": "C",
        "GIT_NO_REPLACE_OBJECTS": "1",  # a replacement shows another note under the same commit
        **{f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in _WHO.items()},
    }
    return kept | ours | ({"GIT_INDEX_FILE": str(index)} if index else {})

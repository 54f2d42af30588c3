"""The `airgate` command. Each subcommand's module is imported only when it is called."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from airgate import __version__
from airgate.errors import AirgateError, nearest

# Each module offers add_arguments(parser) and run(args) -> exit code; `args.command` is the word it was called by.
COMMANDS = {
    "up": ("airgate.platform.cli", "start Airflow with everything it needs on this machine"),
    "down": ("airgate.platform.cli", "stop what `up` started"),
    "status": ("airgate.platform.cli", "show what runs"),
    "demo": ("airgate.platform.cli", "fly one model's whole life through the running Airflow"),
    "airflow": ("airgate.platform.airflow_command", "run Airflow's own command line against the embedded installation"),
    "new-model": ("airgate.authoring.scaffold", "make the folder of a new model"),
    "model": ("airgate.lifecycle.cli_model", "verify and sign versions; which was live when, and which made a file"),
    "audit": ("airgate.audit.cli", "verify, show and complete the audit log"),
    "notify": ("airgate.lifecycle.cli_notify", "check who is told of promotions and alarms; --send tries it"),
    "bundle": ("airgate.lifecycle.cli_bundle", "carry a version to another installation in one file: export, verify, import"),
    "store": ("airgate.encryption.cli", "keys of the encrypted artifact store: status, rotate, keygen"),
}
EXIT_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; 2, with one line on stderr, for an error raised on purpose."""
    words = list(sys.argv[1:] if argv is None else argv)
    plain = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="airgate", epilog=_listing(), formatter_class=plain)
    top.add_argument("--version", action="version", version=f"airgate {__version__}")
    top.add_argument("command", metavar="COMMAND", help="one of the commands below")
    if not words:
        top.print_help(sys.stderr)
        return EXIT_ERROR
    name = top.parse_args(words[:1]).command
    try:
        return _run(name, words[1:])
    except AirgateError as error:
        sys.stderr.write(f"airgate: {' '.join(str(error).splitlines())}\n")
        return EXIT_ERROR


def _run(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        raise AirgateError(f"there is no command '{name}'; {nearest(name, COMMANDS)}")
    module_name, purpose = COMMANDS[name]
    module = import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"airgate {name}", description=purpose)
    parser.set_defaults(command=name)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(words)))


def _listing() -> str:
    width = max(map(len, COMMANDS))
    return "commands:\n" + "\n".join(f"  {name.ljust(width)}  {purpose}" for name, (_, purpose) in COMMANDS.items())

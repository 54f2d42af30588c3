"""`airgate up`, `down`, `status` and `demo`: each word is a module of this package."""

import argparse
import sys
from importlib import import_module
from types import ModuleType

from airgate.errors import AirgateError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command that the parser was made for (its default `command`)."""
    _module(parser.get_default("command")).add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run it and give its exit code.

    An error is printed as it is, for it may quote the end of a log. 130 after Ctrl-C.
    """
    try:
        return int(_module(args.command).run(args))
    except AirgateError as error:
        sys.stderr.write(f"airgate: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. What was started goes on running: `make demo` or `make up` takes it up again, "
                         "`make status` shows it, `make down` stops it.\n")
        return 130


def _module(command: str) -> ModuleType:
    return import_module(f"airgate.platform.{command}")

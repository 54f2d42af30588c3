"""A step that is named exists, and takes what it is said to take; nothing heavy is imported to see it."""

import ast
from pathlib import Path

import pytest

from airgate.contracts.standard_steps import CHECK, LIVE_ARGUMENT, PREDICT, REGISTERING

INCLUDE = Path(__file__).parents[2] / "include"


def function(ref: str) -> ast.FunctionDef:
    module, name = ref.split(":")
    tree = ast.parse((INCLUDE / module.replace(".", "/")).with_suffix(".py").read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found


@pytest.mark.parametrize("ref", [CHECK, PREDICT, *REGISTERING])
def test_the_function_is_there(ref: str) -> None:
    assert function(ref).name == ref.split(":")[1]


def test_the_version_in_production_is_an_argument_of_prediction() -> None:
    arguments = function(PREDICT).args
    assert LIVE_ARGUMENT in {argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]}

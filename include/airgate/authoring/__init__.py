"""The front door of a DAG author: `from airgate.authoring import step`.

Importing this package costs nothing; Airflow is imported with the first use of `step`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airgate.authoring.steps import step

__all__ = ["step"]


def __getattr__(name: str) -> Any:
    if name == "step":
        from airgate.authoring.steps import step

        return step
    raise AttributeError(f"module 'airgate.authoring' has no attribute '{name}'")

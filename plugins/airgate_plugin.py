"""Registers Airgate with Airflow; everything behind it lives in `airgate.console` and `airgate.authoring`."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airgate.authoring.timetable import FeedTimetable
from airgate.console.middleware import ManualChanges
from airgate.console.mount import PREFIX, Console, page_address
from airgate.governance.task_output import mask_task_output


class AirgatePlugin(AirflowPlugin):
    """The console, its place in the navigation, the record of changes made by hand, the schedule of a feed, masked output."""

    name = "airgate"
    timetables = [FeedTimetable]
    fastapi_apps = [{"name": "airgate", "app": Console(), "url_prefix": PREFIX}]
    fastapi_root_middlewares = [{"name": "airgate manual changes", "middleware": ManualChanges}]
    external_views = [{"name": "Governance", "href": page_address(), "destination": "nav", "url_route": "governance"}]

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Every process that supervises tasks loads plugins first."""
        mask_task_output()

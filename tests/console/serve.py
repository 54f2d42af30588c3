"""A whole Airflow API server in one process, with its own database; the port is the only argument. Used by test_flight."""

import sys

import uvicorn
from airflow.api_fastapi.app import create_app
from airflow.cli import cli_parser


def main() -> None:
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        arguments = cli_parser.get_parser().parse_args(command)
        arguments.func(arguments)
    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()

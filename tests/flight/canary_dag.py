"""The canary flight's DAG: tasks that know secrets and fail with them."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, Connection, Variable, dag, get_current_context, task

from airgate.authoring import step

ONCE = {"retries": 0}


def careless(context):
    raise RuntimeError(f"callback of {Connection.get('canary').password}")


@dag(schedule=None, catchup=False, params={"api_token": "", "nested": {}, "password": ""})
def canary():
    @task(on_failure_callback=[careless])
    def connect():
        there = Connection.get("canary")
        said = f"{there.get_uri()} with {there.password} and {there.extra_dejson['token']}"
        print(said)
        raise RuntimeError(said)

    @task
    def read_variable():
        print(Variable.get("canary_api_key"))
        raise RuntimeError(Variable.get("canary_api_key"))

    @task(outlets=[Asset("canary")])
    def read_conf():
        params = get_current_context()["params"]
        print(params)
        print(params["api_token"], params["nested"]["credentials"]["word"])
        raise RuntimeError(f"{params['password']} at {params['source']}")

    connect()
    read_variable()
    read_conf()
    BashOperator(task_id="render", bash_command="{{ macros.datetime.fromisoformat(conn.canary.password) }}")
    step("canary.steps:leak", source="{{ macros.datetime.fromisoformat('2026-01-08') }}", task_options=ONCE)
    step("canary.steps:leak", task_id="render_step", source="{{ macros.datetime.fromisoformat(params.api_token) }}",
         task_options=ONCE)
    step("canary.steps:whisper", task_options=ONCE)
    step("canary.steps:give_away", task_options=ONCE)
    step("canary.steps:take", task_id="take_param", api_token="{{ params.password }}", task_options=ONCE)
    step("canary.steps:take", task_id="take_conf", source="{{ params.api_token }}", task_options=ONCE)
    step("canary.steps:take", task_id="take_connection", source="{{ conn.canary.get_uri() }}", task_options=ONCE)


canary()

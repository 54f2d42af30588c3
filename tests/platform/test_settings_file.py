from pathlib import Path

import httpx
import pytest

from airgate.airflow_api import AirflowApi
from airgate.errors import ConfigError
from airgate.platform import settings_file

ROOT = Path(__file__).parents[2]


def write(tmp_path, text):
    path = tmp_path / settings_file.FILE
    path.write_text(text)
    return path


def complaint(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        settings_file.load(write(tmp_path, text))
    return str(caught.value).removeprefix(f"{tmp_path / settings_file.FILE}: ")


def test_the_shipped_file_is_sound():
    settings = settings_file.load(ROOT / settings_file.FILE).airflow
    assert [pool.pool_name for pool in settings.pools] == ["gpu"]
    assert [connection.conn_id for connection in settings.connections] == ["kubernetes_default"]


def test_no_file_holds_nothing(tmp_path):
    assert settings_file.load(tmp_path / "none.yaml") == settings_file.SettingsFile()


def test_the_empty_template_of_the_astro_cli_holds_nothing(tmp_path):
    settings = settings_file.load(write(tmp_path, """
airflow:
  connections:
    - conn_id:
      conn_type:
      conn_host:
      conn_schema:
      conn_login:
      conn_password:
      conn_port:
      conn_extra:
        example_extra_field: ""
  pools:
    - pool_name:
      pool_slot:
      pool_description:
  variables:
    - variable_name:
      variable_value:
"""))
    assert settings == settings_file.SettingsFile()


def test_extra_may_be_json_text(tmp_path):
    settings = settings_file.load(write(tmp_path, """
airflow:
  connections:
    - {conn_id: lake, conn_type: aws, conn_extra: '{"region_name": "eu-west-1"}'}
"""))
    assert settings.airflow.connections[0].body()["extra"] == '{"region_name": "eu-west-1"}'


@pytest.mark.parametrize(("text", "expected"), [
    ("airflows: {}", "unknown key 'airflows'; did you mean 'airflow'? Allowed: airflow"),
    ("airflow: {pool: []}", "unknown key 'airflow.pool'; did you mean 'pools'? Allowed: connections, pools, variables"),
    ("airflow: {pools: [{pool_name: gpu, pool_slots: 1}]}",
     "airflow.pools.0.pool_slot: Field required; unknown key 'airflow.pools.0.pool_slots'; did you mean 'pool_slot'? "
     "Allowed: pool_description, pool_name, pool_slot"),
    ("airflow: {pools: [{pool_name: gpu, pool_slot: many}]}",
     "airflow.pools.0.pool_slot: Input should be a valid integer, unable to parse string as an integer"),
    ("airflow: {connections: [{conn_id: a b, conn_type: http}]}",
     "airflow.connections.0.conn_id: String should match pattern '^[\\w.-]{1,200}$'"),
    ("airflow: {connections: [{conn_id: a, conn_type: http, conn_extra: '{'}]}",
     "airflow.connections.0.conn_extra: is no mapping and no JSON text of one"),
    ("airflow: {variables: [{variable_name: a, variable_value: 1}, {variable_name: a, variable_value: 2}]}",
     "airflow.variables has a twice; keep one entry for each name"),
    ("[]", "(top): Input should be a valid dictionary or instance of SettingsFile"),
])
def test_errors_name_the_key_and_the_nearest_right_one(tmp_path, text, expected):
    assert complaint(tmp_path, text) == expected


def test_broken_yaml(tmp_path):
    assert complaint(tmp_path, "airflow: [").startswith("not readable as YAML: ")


def test_an_error_never_shows_a_password(tmp_path):
    text = "airflow: {connections: [{conn_id: db, conn_password: hunter2, conn_prt: 1}]}"
    assert "hunter2" not in complaint(tmp_path, text)
    sound = settings_file.load(write(tmp_path, text.replace("conn_prt: 1", "conn_type: postgres")))
    assert "hunter2" not in repr(sound)


class FakeAirflow:
    """The API's side of the wire: remembers what it holds, answers 409 for what is there."""

    def __init__(self):
        self.held = {}

    def __call__(self, request):
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        kind, *name = request.url.path.removeprefix("/api/v2/").split("/")
        import json
        body = json.loads(request.content)
        if request.method == "POST":
            key = body.get("connection_id") or body.get("name") or body.get("key")
            if (kind, key) in self.held:
                return httpx.Response(409, json={})
        else:
            key = name[0]
        if body.get("slots") == 13:
            return httpx.Response(422, text="no thirteen")
        self.held[kind, key] = body
        return httpx.Response(200, json={})


@pytest.fixture
def airflow():
    fake = FakeAirflow()
    with AirflowApi("http://airflow.test", "admin", "secret") as api:
        api._http = httpx.Client(base_url="http://airflow.test", transport=httpx.MockTransport(fake))
        fake.api = api
        yield fake


def test_applying_twice_gives_the_files_values(airflow, tmp_path):
    text = "airflow: {pools: [{pool_name: gpu, pool_slot: 2}], variables: [{variable_name: site, variable_value: north}]}"
    settings = settings_file.load(write(tmp_path, text))
    assert settings_file.apply(settings, airflow.api) == 2
    airflow.held["pools", "gpu"]["slots"] = 7
    assert settings_file.apply(settings, airflow.api) == 2
    assert airflow.held["pools", "gpu"] == {"name": "gpu", "slots": 2, "description": None, "include_deferred": True}
    assert airflow.held["variables", "site"]["value"] == "north"


def test_a_refusal_names_the_entry(airflow, tmp_path):
    settings = settings_file.load(write(tmp_path, "airflow: {pools: [{pool_name: gpu, pool_slot: 13}]}"))
    with pytest.raises(ConfigError, match=r"Airflow refused pools entry 'gpu' \(422\): no thirteen"):
        settings_file.apply(settings, airflow.api)

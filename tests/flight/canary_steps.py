"""Steps of the canary flight: careless with what they know, which comes from a file so that no line of code has it."""

import json
import logging
import os
import sys
from pathlib import Path

from airgate.errors import StepError
from airgate.steps.context import StepContext


def secrets() -> dict[str, str]:
    """The canaries by name."""
    found: dict[str, str] = json.loads((Path(os.environ["AIRGATE_HOME"]) / "canaries.json").read_text())
    return found


def lines(said: dict[str, str]) -> list[str]:
    """What careless code prints and raises."""
    return [
        f"GET https://ana:{said['UrlPassword']}@host/x failed", f"GET https://host/x?page=1&token={said['UrlQuery']} failed",
        f"Authorization: Bearer {said['Bearer']}", str({"Authorization": f"Basic {said['Basic']}", "X-Api-Key": said["ApiKey"]}),
        f"AWS_ACCESS_KEY_ID=AKIA{said['Awsi'].upper()}", f"aws_secret_access_key = {said['AwsSecret']}",
        f"password={said['Assigned']}", f'{{"client_secret": "{said["Json"]} with spaces {said["Json"]}"}}',
        f"Command '['psql', '--password', '{said['Option']}']' failed",
        f"-----BEGIN RSA PRIVATE KEY-----\n{said['Pem']}\nab==\n-----END RSA PRIVATE KEY-----",
    ]


def leak(source: str, ctx: StepContext) -> dict[str, str]:
    """Say everything everywhere, then fail with it. `source` is no secret."""
    said = secrets()
    for line in lines(said):
        print(line)
        sys.stderr.write(line + "\n")
        logging.warning("cannot go on: %s", line)
        ctx.progress(line)
    ctx.log_metric(f"score of token={said['MetricName']}", 1.0)
    ctx.fact("api_token", said["Fact"])
    ctx.fact("source", f"https://ana:{said['FactUrl']}@host/x")
    ctx.fact(f"password={said['FactName']}", "x")
    try:
        ctx.attach(f"AKIA{said['Atta'].upper()}", ctx.workdir)
    except StepError as error:
        print(error)
    raise RuntimeError("\n".join(lines(said)))


def whisper(ctx: StepContext) -> dict[str, str]:
    """The same, and then go on."""
    said = secrets()
    ctx.log_metric(f"score of token={said['MetricName']}", 1.0)
    ctx.fact("api_token", said["Fact"])
    ctx.fact("source", f"https://ana:{said['FactUrl']}@host/x")
    return {"done": "yes"}


def give_away() -> dict[str, str]:
    """Give a secret as a value, which would be in XCom."""
    return {"rows": "3", "api_token": secrets()["Value"]}


def take(api_token: str = "", source: str = "") -> dict[str, str]:
    """Be given a secret."""
    return {"api_token": api_token, "source": source}

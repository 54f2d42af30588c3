"""The last step of batch inference in parts: what all of them scored becomes visible, once nothing is missing."""

from typing import Any

from airgate.contracts.part import Part
from airgate.contracts.provenance import file_name
from airgate.errors import DataError
from airgate.steps.context import StepContext
from airgate.steps.manifest import manifest_digest
from airgate.steps.partitions import days_of
from airgate.steps.predict import identified
from airgate.steps.prediction_files import PredictionFiles, run_mark


def publish(live: dict[str, Any], output: str, parts: list[Part], predicted: list[dict[str, Any]],
            ctx: StepContext) -> dict[str, Any]:
    """Move the predictions of all parts into their places.

    `live` is what is in production now, `parts` what `partition` gave, `predicted` what `predict` gave for each. Nothing is
    published unless every day of the run's window was scored once, at the parts' commit, by the version that is live. Each
    file replaces its predecessor in one move; a run that is killed while publishing leaves each day either old or new, and
    running it again finishes. Gives what `predict` gives for a window that it scores alone.

    Raises DataError when predictions are missing or of another version, ArtifactError when files are gone, ContractError
    when the call lacks something.
    """
    version, digest = identified(live, ctx)
    scored = [_scored(part, predicted, version, digest) for part in parts]
    _refuse_gaps(parts, scored, ctx)
    staged = {name: hidden for one in scored for name, hidden in one["staged"].items()}
    digests = {name: found for one in scored for name, found in one["digests"].items()}
    files = PredictionFiles(f"{output.rstrip('/')}/{ctx.spec.name}")
    ctx.check_fence()
    urls = files.commit(staged, digests)
    files.discard_run(run_mark(ctx.run), staged)
    rows, whole = sum(one["rows"] for one in scored), manifest_digest(digests)
    ctx.fact("model_version", version)
    ctx.fact("model_digest", digest)
    ctx.fact("predictions_digest", whole)
    ctx.fact("rows", str(rows))
    ctx.log_metric("rows_published", rows)
    ctx.progress(f"{rows} rows of {len(urls)} days published, scored in {len(parts)} parts by version {version}")
    return {"rows": rows, "files": urls, "output": output, "digests": digests, "digest": whole, "model": ctx.spec.name,
            "version": version, "model_digest": digest}


def _scored(part: Part, predicted: list[dict[str, Any]], version: str, digest: str) -> dict[str, Any]:
    """What was scored of a part, which names itself: places in the list say nothing where tasks are missing."""
    found = next((one for one in predicted if one.get("part") == part.model_dump(mode="json")), None)
    if found is None:
        raise DataError(f"part {part.name} has no predictions on record at commit {part.revision[:12]}: its task was skipped or "
                        "marked success by hand, or it scored another commit. Nothing was published; clear that task so that it "
                        "runs again.")
    if (found.get("version"), found.get("model_digest")) != (version, digest):
        raise DataError(f"part {part.name} was scored by version {found.get('version')}, and version {version} is in production "
                        "now. Nothing was published; clear the task 'live_model' and all after it.")
    return found


def _refuse_gaps(parts: list[Part], scored: list[dict[str, Any]], ctx: StepContext) -> None:
    """Every day of the window is in one part, and in the predictions of that part."""
    window = [file_name(day) for day in days_of(ctx.window)]
    listed = [file_name(day) for part in parts for day in days_of(part.window)]
    found = [name for one in scored for name in one["digests"]]
    if not sorted(window) == sorted(listed) == sorted(found) or any(set(one["staged"]) != set(one["digests"]) for one in scored):
        odd = sorted({*window, *listed, *found} - ({*window} & {*listed} & {*found})) or ["a day that is there twice"]
        raise DataError(f"the parts do not make up the run's window, {ctx.window.start} to {ctx.window.end} (end not included): "
                        f"see {odd[0]}. Nothing was published; clear the task that cut the window and all after it.")

"""Masks what tasks print where Airflow 3.3 forgets to: in the output of the process that supervises them.

A supervisor writes each line of a task twice: into the task's log, masked, and, under the LocalExecutor, to the scheduler's
own output, as it came. What is masked in the one is masked in the other once Airflow's own masking stands in both.
"""


def mask_task_output() -> None:
    """Add Airflow's masking to this process's structlog, before the line is written. Doing it twice changes nothing."""
    import structlog
    from airflow.sdk.log import mask_logs

    processors = structlog.get_config()["processors"]
    if mask_logs not in processors:
        structlog.configure(processors=[*processors[:-1], mask_logs, processors[-1]])

"""Signs the audit log as it is now, and hands the checkpoint to the anchors. Runs every hour, and after every promotion."""

from typing import Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.lifecycle import recording


class CheckpointOperator(BaseOperator):
    """Makes a checkpoint. An anchor that fails is put on record and tried again the next time; it fails nothing else."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Give {"size", "root", "anchored", "failed"}. Raises ConfigError without a key, AuditError when the log fails."""
        from airgate.audit import checkpoints, signing, trust
        from airgate.audit.anchors import open_anchors

        now = settings.load()
        store, anchors = recording.store(), open_anchors(now.audit_anchors)
        trust.require_agreement(store, anchors)
        note = checkpoints.checkpoint(store, signing.load(now.audit_key, now.audit_origin))
        self.log.info("the first %d events are signed: root %s", note.size, note.root.hex())
        anchored = checkpoints.anchor_all(store, anchors)
        for anchor, size in anchored.taken:
            self.log.info("checkpoint %d is in %s", size, anchor)
        for failure in anchored.failed:
            self.log.error("not anchored, and on record: %s", failure)
        return {"size": note.size, "root": note.root.hex(), "anchored": len(anchored.taken), "failed": anchored.failed}

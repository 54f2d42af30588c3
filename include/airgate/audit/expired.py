"""Which events have lost their contents, held against what the log itself says of it: the verifier's rule, on rows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airgate.audit.verifier import Announcement, Gone, add_gone, unexplained


@dataclass
class Expired:
    """Takes the rows in the order of seq; docs/audit-format.md, section 8, has the rule.

    An `audit.expired` event lists ranges of seqs, first and last inclusive, all before its own: {"ranges": [[0, 17], [19, 40]]},
    and for how many months such contents are kept.
    """

    without: list[Gone] = field(default_factory=list)
    announced: list[Announcement] = field(default_factory=list)

    def gone(self, seq: int, before: str) -> None:
        """Note a row whose contents are gone; `before` is when the last row that has some was stored, "" for none."""
        add_gone(self.without, seq, before)

    def read(self, seq: int, event: Mapping[str, Any]) -> None:
        """Take an event's decoded JSON. An announcement, or a range of it, in another form explains nothing."""
        if event["kind"] == "audit.expired":
            with suppress(KeyError, TypeError, ValueError):
                self.announced.append(Announcement.of(seq, event["body"]))

    def unexplained(self, checkpoints: Sequence[tuple[int, str]] | None = None) -> int | None:
        """Give the first row that nothing explains, None if there is none; `checkpoints` as the verifier takes them."""
        return unexplained(self.without, self.announced, checkpoints)

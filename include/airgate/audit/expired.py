"""Which events have lost their contents, held against what the log itself says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Expired:
    """Holds the rows without contents against what `audit.expired` events, which come later, say of them.

    Such an event lists ranges of seqs, first and last inclusive, all before its own: {"ranges": [[0, 17], [19, 40]]}.
    """

    without: list[list[int]] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def gone(self, seq: int) -> None:
        """Note a row whose contents are gone; in the order of seq."""
        if self.without and self.without[-1][1] == seq - 1:
            self.without[-1][1] = seq
        else:
            self.without.append([seq, seq])

    def read(self, seq: int, event: Mapping[str, Any]) -> None:
        """Take an event's decoded JSON. A range in another form, or not wholly before the event, explains nothing."""
        if event["kind"] != "audit.expired":
            return
        ranges = event["body"].get("ranges")
        for pair in ranges if isinstance(ranges, list) else []:
            match pair:
                case [int(first), int(last)] if type(first) is type(last) is int and 0 <= first <= last < seq:
                    self.ranges.append((first, last))

    def unexplained(self) -> int | None:
        """Give the first row that nothing explains, None if there is none."""
        covered = iter(sorted(self.ranges))
        first, last = next(covered, (0, -1))
        for start, end in self.without:
            seq = start
            while seq <= end:
                while last < seq:
                    following = next(covered, None)
                    if following is None:
                        return seq
                    first, last = following
                if first > seq:
                    return seq
                seq = last + 1
        return None

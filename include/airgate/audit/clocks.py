"""What the log's two clocks say of each other. Order is the sequence, never a clock; these are notices, not verdicts.

An event has the time of its actor (`occurred_at`) and that of the store (`stored_at`). An event may be stored long after it
happened: it waited in a spool, or was recovered. It cannot be stored before it happened, nor can the store's time run backwards.
"""

from dataclasses import dataclass, field
from datetime import datetime

# Seconds by which machines' clocks may differ before anybody needs to know.
TOLERANCE = 5.0
_SHOWN = 5


@dataclass
class Clocks:
    """Fed with events in the order of seq."""

    newest: str = ""
    future: list[tuple[int, float]] = field(default_factory=list)
    backwards: list[tuple[int, float]] = field(default_factory=list)

    def read(self, seq: int, occurred_at: str, stored_at: str) -> None:
        """Take one event's times, as `time_text` writes them: fixed width, so that text order is time order.

        Raises ValueError when one that matters is no time.
        """
        if occurred_at > stored_at:
            self._note(self.future, seq, occurred_at, stored_at)
        if stored_at < self.newest:
            self._note(self.backwards, seq, self.newest, stored_at)
        else:
            self.newest = stored_at

    def notices(self) -> list[str]:
        """Give one line for each kind of disagreement that was found."""
        lines = []
        for found, text in ((self.future, "say that they happened after they were stored"),
                            (self.backwards, "were stored earlier than an event before them")):
            if found:
                places = ", ".join(f"{seq} (by {seconds:.0f} s)" for seq, seconds in found[:_SHOWN])
                more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
                lines.append(f"clocks: events {places}{more} {text}")
        return lines

    @staticmethod
    def _note(found: list[tuple[int, float]], seq: int, later: str, earlier: str) -> None:
        seconds = (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
        if seconds > TOLERANCE:
            found.append((seq, seconds))

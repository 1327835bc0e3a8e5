"""What is known of every remedy: the scenario that executes it, or why it has none."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.remedies.catalogue import Message, Remedy, remedies

PENDING = Path(__file__).with_name("pending.txt")
"""Remedies that no scenario executes yet: lines of clause, tab, beginning of its message."""

REASONS = {
    "no remedy": "the text is no message, or the clause tells nobody to do anything",
    "judgement": "asks a person to look at something or to decide, and nothing that a test could do decides it",
    "elsewhere": "asks for work at a scanner, in another program or on other machines",
}
"""Why a remedy needs no scenario: the classes, few and each explained."""

Scenario = Callable[..., str]


@dataclass(frozen=True)
class Entry:
    """A remedy, known by its clause and by a piece of its message, and what executes it or excuses it.

    A piece that begins with ^ is the beginning of the message. `test` names a test elsewhere that executes it.
    """

    clause: str
    of: str
    scenario: Scenario | None
    case: Any = None
    slow: bool = False
    reason: str = ""
    broken: str = ""
    test: str = ""

    def fits(self, one: Remedy) -> bool:
        if one.clause != self.clause:
            return False
        return one.message.startswith(self.of[1:]) if self.of.startswith("^") else self.of in one.message


entries: list[Entry] = []


def remedy(
    clause: str, of: str = "", *, case: Any = None, slow: bool = False, broken: str = ""
) -> Callable[[Scenario], Scenario]:
    """Registers a scenario: a function of pytest's fixtures, and of `case` where it serves several remedies.

    It provokes the message, does literally what the clause says, asserts that what failed succeeds now, and returns the
    text in which the message was shown. The test of the registry looks for the message in that text. `broken` says why
    a remedy does not work yet; the test fails when it does.
    """

    def register(scenario: Scenario) -> Scenario:
        entries.append(Entry(clause, of, scenario, case, slow, broken=broken))
        return scenario

    return register


def executed_by(clause: str, of: str = "", *, test: str) -> None:
    """Registers a remedy that a test outside this folder executes, `tests/path.py::test_name`, as a scenario would."""
    entries.append(Entry(clause, of, None, test=test))


def excused(reason: str, *pairs: str | tuple[str, str]) -> None:
    """Registers remedies that need no scenario: clauses, or pairs of a clause and a piece of its message."""
    if reason not in REASONS:
        raise ValueError(f"{reason!r} is not a reason; known: {', '.join(REASONS)}")
    for pair in pairs:
        clause, of = (pair, "") if isinstance(pair, str) else pair
        entries.append(Entry(clause, of, None, reason=reason))


def fitting(entry: Entry) -> list[Remedy]:
    """The remedies that an entry is about."""
    return [one for one in remedies() if entry.fits(one)]


def messages_of(entry: Entry) -> set[str]:
    return {one.message for one in fitting(entry)}


def open_remedies() -> list[Remedy]:
    """Remedies without an entry, each once."""
    by_clause: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_clause[entry.clause].append(entry)
    found = {
        (one.clause, one.message): one
        for one in remedies()
        if not any(entry.fits(one) for entry in by_clause[one.clause])
    }
    return list(found.values())


def pending_line(one: Remedy) -> str:
    beginning = Message(one.message, "").text.strip().replace("\n", " ")[:90]
    return f"{one.clause}\t{beginning}"


def pending() -> list[str]:
    return PENDING.read_text(encoding="utf-8").splitlines() if PENDING.is_file() else []


def write_pending(lines: Iterable[str]) -> None:
    PENDING.write_text("".join(f"{line}\n" for line in sorted(set(lines))), encoding="utf-8")

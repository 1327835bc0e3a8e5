"""Every remedy that a message names works: it is executed here, excused with a reason, or counted as not executed yet.

A message with a new remedy needs a scenario: a function in a module of this folder, decorated with
`@remedy("the clause", of="a piece of its message")`. `python -m tests.remedies` lists what has none.
"""

import ast
import inspect
from collections import Counter
from typing import Any

import pytest

from tests.remedies import scenarios
from tests.remedies.catalogue import ROOT, Message, remedies
from tests.remedies.registry import Entry, entries, messages_of, open_remedies, pending, pending_line

MOST_PENDING = 18
"""Remedies that are not executed yet, at most: this number may only fall."""


def _marks(group: list[Entry]) -> list[pytest.MarkDecorator]:
    broken = [entry.broken for entry in group if entry.broken]
    return [
        *([pytest.mark.slow] if any(entry.slow for entry in group) else []),
        *([pytest.mark.xfail(reason=broken[0], strict=True)] if broken else []),
    ]


def _groups() -> list[Any]:
    """Entries of one scenario and case belong to one test: it is run once for all its remedies."""
    groups: dict[tuple[Any, str], list[Entry]] = {}
    for entry in entries:
        if entry.scenario is not None:
            groups.setdefault((entry.scenario, repr(entry.case)), []).append(entry)
    return [
        pytest.param(
            group,
            id=f"{scenario.__module__.rpartition('.')[2]}-{scenario.__name__}-{group[0].clause[:40]}",
            marks=_marks(group),
        )
        for (scenario, _), group in groups.items()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("group", _groups())
def test_what_a_message_advises_works(group: list[Entry], request: pytest.FixtureRequest) -> None:
    scenario = group[0].scenario
    assert scenario is not None
    wanted = inspect.signature(scenario).parameters
    shown = scenario(**{name: group[0].case if name == "case" else request.getfixturevalue(name) for name in wanted})
    for entry in group:
        (message,) = messages_of(entry)
        assert Message(message, "").pattern.search(shown), f"{message!r} was not shown:\n{shown}"


def test_every_remedy_has_a_scenario_a_reason_or_a_line_among_those_that_wait() -> None:
    waiting = set(pending())
    new = [one for one in open_remedies() if pending_line(one) not in waiting]
    told = "\n".join(f"{one.where}\n    @remedy({one.clause!r}, {one.message[:60]!r})" for one in new)
    assert not new, (
        "remedies that nothing executes; write a scenario for each (CONTRIBUTING.md), or excuse it with a reason:\n"
        + told
    )


def test_an_entry_is_about_exactly_one_message() -> None:
    counts = {(entry.clause, entry.of): len(messages_of(entry)) for entry in entries}
    gone = [pair for pair, count in counts.items() if count == 0]
    assert not gone, f"no message has this remedy any more; remove the entry or follow the message: {gone}"
    executed = {(entry.clause, entry.of) for entry in entries if not entry.reason}
    vague = [pair for pair in executed if counts[pair] > 1]
    assert not vague, f"several messages have this remedy; name one with a piece of it: {vague}"


def test_a_remedy_has_one_entry_only() -> None:
    named = Counter(
        (one.clause, one.message) for one in set(remedies()) for entry in entries
        if entry.fits(one) and entry.reason
    )  # fmt: skip
    both = [pair for pair in named if any(not e.reason and e.clause == pair[0] and e.of in pair[1] for e in entries)]
    assert not both, f"executed, and excused as well: {both}"


@pytest.mark.parametrize("named", sorted({entry.test for entry in entries if entry.test}))
def test_a_test_elsewhere_that_executes_a_remedy_exists(named: str) -> None:
    path, _, name = named.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_remedies_that_wait_are_known_and_become_fewer() -> None:
    waiting = pending()
    still = {pending_line(one) for one in open_remedies()}
    assert sorted(set(waiting) - still) == [], "no longer waiting; `python -m tests.remedies --write` leaves them out"
    assert len(waiting) <= MOST_PENDING, "remedies of new messages are executed, not added to those that wait"
    assert len(waiting) > MOST_PENDING - 5, f"lower MOST_PENDING to {len(waiting)}: it may only fall"


def test_scenarios_are_in_the_modules_that_are_read() -> None:
    assert {entry.scenario.__module__ for entry in entries if entry.scenario} <= {one.__name__ for one in scenarios}

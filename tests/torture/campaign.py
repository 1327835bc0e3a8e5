"""One fault in one command, and the same command once more: what must hold of every one of them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.core.files import read_json
from torture.commands import Command, fresh
from torture.shim.shim import Ended, Fault, Nursery

# Of each attempt its own: an interrupted run has more of them.
_OF_ATTEMPTS = re.compile(r"/logs/|/tensorboard/|/submissions/")
# They hold the time at which they were made, or the digest of a file that does.
_DATED = re.compile(r"\.pdf$|/index\.html$|/report\.html$|/figures/digests\.json$")
_TROUBLE = re.compile(r"Traceback|Exception ignored|Exception in thread|Error:")


@dataclass
class Chain:
    """Calls of one command with faults, one after the other."""

    ends: list[Ended] = field(default_factory=list)
    """Of the calls in which a fault happened."""
    wrong: list[str] = field(default_factory=list)
    """What is wrong with them, and with the call without a fault after them."""
    missed: list[Fault] = field(default_factory=list)
    """Those that did not happen, because the command had finished."""


@dataclass(frozen=True)
class Trial:
    """A command in a working directory, undisturbed, and what it leaves."""

    nursery: Nursery
    command: Command
    template: Path
    work: Path
    left: Mapping[str, str]
    """Name -> digest of every file (empty where two undisturbed calls differ)."""
    num_calls: int

    def after(self, faults: Sequence[Fault]) -> Chain:
        """One call per fault, each in what the one before left, until a call ends well, and a last call without one."""
        fresh(self.template, self.work)
        chain, places = Chain(), list[str]()
        for number, fault in enumerate(faults):
            ended = run(self.nursery, self.command, self.work, fault)
            if not self.nursery.shim.hits:
                # It had less left to write: this was the call without a fault.
                chain.missed = list(faults[number:])
                chain.wrong += [f"after {places}: {text}" for text in self.differences(ended)]
                return chain
            place = self.nursery.shim.calls()[fault.at - 1]
            places.append(f"{fault} {place.function} {place.path.removeprefix(str(self.work))}")
            chain.ends.append(ended)
            chain.wrong += [f"{places[-1]}: {text}" for text in faults_of(ended, self.work)]
            if ended.code == 0:
                chain.missed = list(faults[number + 1 :])
                break
        again = run(self.nursery, self.command, self.work)
        chain.wrong += [f"after {places}: {text}" for text in self.differences(again)]
        return chain

    def differences(self, again: Ended) -> list[str]:
        """How the end of a call without a fault, and what it leaves, differ from those of an undisturbed one."""
        if again.code:
            return [f"ends with {again.code}: {again.err[-600:]}"]
        now = contents(self.work)
        found = [f"missing {name}" for name in sorted(self.left.keys() - now.keys())]
        found += [f"left over {name}" for name in sorted(now.keys() - self.left.keys())]
        return found + [
            f"other content of {name}"
            for name, digest in self.left.items()
            if digest and now.get(name, digest) != digest
        ]


def run(nursery: Nursery, command: Command, work: Path, fault: Fault | None = None) -> Ended:
    """One call of the command."""
    return nursery.run(command.function, command.arguments, cwd=work, fault=fault)


def trial_of(nursery: Nursery, command: Command, template: Path, work: Path) -> Trial:
    """The command twice without a fault: what is the same both times is compared later."""
    left = []
    for _ in range(2):
        fresh(template, work)
        ended = run(nursery, command, work)
        assert ended.code == 0, ended.err
        left.append(contents(work))
    count = nursery.shim.count
    first, second = left
    assert first.keys() == second.keys(), sorted(first.keys() ^ second.keys())
    same = {
        name: digest if digest == second[name] and not _DATED.search(name) else "" for name, digest in first.items()
    }
    return Trial(nursery, command, template, work, same, count)


def contents(folder: Path) -> dict[str, str]:
    """Name -> digest of every file in `folder`, without those of attempts."""
    found = {}
    for path in folder.rglob("*"):
        name = "/" + str(path.relative_to(folder))
        if path.is_file() and not _OF_ATTEMPTS.search(name):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def faults_of(ended: Ended, work: Path) -> list[str]:
    """What a disturbed command did wrong: its code, its words, or what its run says of itself."""
    if ended.code == 0:
        # What may fail: logs, event files of trackers, caches of digests, removal of what is no longer needed.
        return ["trouble on stderr: " + ended.err[-600:]] if _TROUBLE.search(ended.err) else []
    found = []
    if ended.code not in (4, 2):
        found.append(f"ends with {ended.code}: {ended.err[-600:]}")
    elif _TROUBLE.search(ended.err):
        found.append(f"trouble on stderr: {ended.err[-900:]}")
    said = [line for line in ended.err.splitlines() if re.search(r"full \(|over quota|read-only file|I/O error", line)]
    if len({line.replace(" (the state could not be written)", "") for line in said}) < 1:
        found.append(f"no line says what failed: {ended.err[-600:]}")
    for status in work.glob("runs/*/*/status.json"):
        about = read_json(status)
        if about["state"] == "failed" and about["class"] != "disk":
            found.append(f"class {about['class']}: {about['reason']}")
    return found

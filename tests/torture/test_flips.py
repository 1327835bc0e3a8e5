"""Flipped bits and cuts in every kind of file that is read back, with its times kept: no command gives a wrong number.

A command that meets a damaged file either refuses it (an error of the package that names the file), or makes it again
or leaves it out and says so, or gives exactly the numbers of the undamaged study. Anything else is a failure: other
numbers without a word, or an exception that no user can read.
"""

import hashlib
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures import study
from fixtures.study import Numbers, Outcome, outcome_of

from sam2ft.core.errors import ClaimedError, DiskError, IncompleteError, UserError

# A study of a file of every kind is made first, in processes of its own; each test needs it.
pytestmark = [pytest.mark.sam2, pytest.mark.slow]
TYPED = (UserError, IncompleteError, DiskError, ClaimedError)
EXPERIMENT = """\
experiment: {name: toy, seed: 42}
dataset:
  toy: {store: data/toy}
datamodule: {bbox_shift: 2, batch_size: 2, num_workers: 0, metric: {func: {dice: true, iou: true, tissuevolume: true}}}
module:
  sam2_model_cfg: sam2_nano
  sam2_checkpoint: weights/nano.safetensors
  image_size: 64
  trainable: {prompt_encoder: false, image_encoder: false, mask_decoder: true}
  optimizer: {type: AdamW, lr: 1e-3}
  num_epochs: 1
  use_amp: false
  visualize: true
eval: {precision: fp32, qc_slices: 2}
resources: {nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 1, hours: 1}
"""
_ID = re.compile("[0-9a-f]{12,16}")
Commands = tuple[Callable[[], Numbers], ...]
RUN, EVAL = study.RUNS, f"{study.RUNS}/eval/*"


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and the commands that read them."""

    patterns: tuple[str, ...]
    commands: Commands


KINDS: Mapping[str, Kind] = {
    "store.json": Kind(("data/toy/store.json",), (study.read_store, study.prepared, study.evaluated)),
    "record of a volume": Kind(("data/toy/volumes/*.json",), (study.read_store, study.prepared)),
    "array": Kind(("data/toy/volumes/*.npy",), (study.read_store, study.prepared)),
    "array of an evaluated volume": Kind(("data/toy/volumes/[ab]__*.npy",), (study.evaluated, study.scored)),
    "metadata": Kind(("data/toy/metadata_for_*.json*",), (study.read_store, study.prepared, study.reported)),
    "store of hashed subjects": Kind(("data/hashed/*.json*", "data/hashed/volumes/*.json"), (study.hashed,)),
    "key file": Kind(("toy.key",), (study.hashed,)),
    "best.pt": Kind(
        (f"{RUN}/checkpoints/best.pt",), (study.evaluated, study.evaluated_here, study.reported, study.trained)
    ),
    "resume file": Kind((f"{RUN}/checkpoints/*.safetensors",), (study.trained_without_best,)),
    "converted checkpoint": Kind(("runs/.weights/*.safetensors",), (study.foreign,)),
    "checkpoint of another program": Kind((str(study.FOREIGN),), (study.foreign,)),
    "config.yaml": Kind((f"{RUN}/config.yaml",), (study.evaluated_here, study.reported, study.in_notebook)),
    "config.yaml of an evaluation": Kind((f"{EVAL}/config.yaml",), (study.evaluated_here, study.reported)),
    "status.json": Kind((f"{RUN}/status.json",), (study.shown, study.reported, study.in_notebook, study.trained)),
    "identity.json": Kind((f"{RUN}/identity.json",), (study.shown, study.reported, study.trained)),
    "provenance.json": Kind((f"{RUN}/provenance.json",), (study.shown, study.reported, study.trained)),
    "history.csv": Kind((f"{RUN}/history.csv*",), (study.reported, study.trained_without_best)),
    "claim.json": Kind((f"{RUN}/claim.json",), (study.shown, study.evaluated_here, study.trained)),
    "plan": Kind(("runs/toy/plan-*.json",), (study.shown, study.reported, study.in_notebook, study.started)),
    "submission record": Kind(("runs/toy/submissions/*.json",), (study.shown, study.reported)),
    "job file": Kind(("runs/toy/submissions/*/*.json",), (study.started,)),
    "calibration": Kind(("runs/toy/calibration/*.json",), (study.planned,)),
    "cache of digests": Kind(("runs/.digests.json",), (study.planned,)),
    "_SUCCESS": Kind((f"{EVAL}/_SUCCESS",), (study.evaluated_here, study.reported, study.in_notebook)),
    "table of an evaluation": Kind((f"{EVAL}/*.csv",), (study.evaluated_here, study.reported, study.in_notebook)),
    "prediction": Kind((f"{EVAL}/predictions/*/*.nii.gz",), (study.evaluated_here, study.scored)),
    "list of pictures": Kind((f"{EVAL}/qc/index.json*",), (study.reported,)),
    "picture": Kind((f"{EVAL}/qc/*.png",), (study.reported,)),
    "list of slices to scroll": Kind((f"{EVAL}/qc/volumes.json*",), (study.reported,)),
    "slice to scroll": Kind((f"{EVAL}/qc/volumes/*",), (study.reported,)),
    "part of an unfinished evaluation": Kind(
        ("partial/parts/*/*", "partial/predictions/*/*", "partial/config.yaml"), (study.continued,)
    ),
    "part of a report": Kind(("runs/toy/.report/parts/*/*",), (study.reported,)),
    "figures": Kind(("runs/toy/report/figures/*",), (study.reported,)),
    "table of the report before": Kind(("runs/toy/report/*.csv", "runs/toy/report/*.json"), (study.reported,)),
}


@pytest.fixture(scope="module")
def whole(toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """(working directory of a finished study, a copy of it); the working directory of the process meanwhile."""
    work, before = tmp_path_factory.mktemp("flips") / "study", Path.cwd()
    work.mkdir()
    os.chdir(work)
    study.build(work, toy_parts, EXPERIMENT)
    yield work, Path(shutil.copytree(work, work.with_name("copy")))
    os.chdir(before)


@pytest.fixture(scope="module")
def expected(whole: tuple[Path, Path]) -> Callable[[Callable[[], Numbers]], Outcome]:
    """What a command gives in the undamaged study."""
    known: dict[Callable[[], Numbers], Outcome] = {}

    def of(command: Callable[[], Numbers]) -> Outcome:
        if command not in known:
            restored(whole)
            known[command] = outcome_of(command)
            assert known[command].error is None, known[command].said
        return known[command]

    return of


def restored(whole: tuple[Path, Path]) -> None:
    work, copy = whole
    os.chdir(work.parent)
    shutil.rmtree(work)
    shutil.copytree(copy, work)
    os.chdir(work)


Damage = Callable[[bytes], bytes]


def flip(place: int, bit: int) -> Damage:
    return lambda data: data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def damages(name: str, data: bytes, most: int) -> dict[str, Damage]:
    """`most` of them (2 or more): flips of one bit in the first or last byte, a digit, places drawn from the name; and
    cuts. Files get different ones."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    digits = [place for place, byte in enumerate(data) if chr(byte) in "1234567890"] or [0]
    places = [digits[seed % len(digits)], len(data) - 1, seed % len(data), 0, seed // 3 % len(data), len(data) // 2]
    flips = {f"bit of byte {place}": flip(place, 0 if number == 0 else seed % 8) for number, place in enumerate(places)}
    cuts: dict[str, Damage] = {
        "half": lambda data: data[: len(data) // 2],
        "empty": lambda _: b"",
        "without its last byte": lambda data: data[:-1],
    }
    num_cuts = max(1, most // 3)
    return _some(flips, most - num_cuts, seed) | _some(cuts, num_cuts, seed)


def _some(damages: dict[str, Damage], count: int, seed: int) -> dict[str, Damage]:
    """The first `count`, counted from a place that differs between files."""
    names = list(damages)
    return {name: damages[name] for name in [*names[seed % len(names) :], *names[: seed % len(names)]][:count]}


def is_known(row: tuple[str, ...], undamaged: Numbers, said: str) -> bool:
    """Whether a row is one of the undamaged study.

    A row that gives the reason why its run is not finished, and every row where a report says that an evaluation does
    not count, may be without numbers: cells are empty, others are as before. The texts for papers speak then of other
    evaluations.
    """
    is_uncounted = re.search("not counted|is to be made again", said) is not None
    if row in undamaged or (row[0] == "text" and is_uncounted):
        return True
    gives_reason = any(cell.startswith("reason=") and cell != "reason=" for cell in row)
    cells = {cell for cell in row if not cell.endswith("=") and not cell.startswith(("state=", "reason=", "best="))}
    return (is_uncounted or gives_reason) and any(cells <= set(other) for other in undamaged if other[0] == row[0])


def verdict(damaged: Outcome, undamaged: Outcome, path: Path) -> str:
    """refused, healed, harmless; or what is wrong."""
    # A file of an evaluation or of a part is named by its folder, an array by its volume.
    folder = path.parent.name if _ID.fullmatch(path.parent.name) else path.name
    is_named = any(name in damaged.said for name in (path.name, folder, path.stem.split(".")[0]))
    if damaged.error is not None:
        if not isinstance(damaged.error, TYPED):
            return f"UNTYPED {type(damaged.error).__name__}: {damaged.said[:200]}"
        return "refused" if is_named else f"UNNAMED: {damaged.said[:300]}"
    assert damaged.numbers is not None
    assert undamaged.numbers is not None
    if wrong := {row for row in damaged.numbers if not is_known(row, undamaged.numbers, damaged.said)}:
        return f"SILENT, such as {sorted(wrong)[0]}" if not is_named else f"WRONG, such as {sorted(wrong)[0]}"
    if undamaged.numbers - damaged.numbers:
        return "refused" if is_named else f"SILENT, without {sorted(undamaged.numbers - damaged.numbers)[0]}"
    return "healed" if is_named and damaged.said != undamaged.said else "harmless"


def campaign(
    whole: tuple[Path, Path],
    expected: Callable[[Callable[[], Numbers]], Outcome],
    kinds: Mapping[str, Kind],
    *,
    files: int,
    most: int,
    commands: int,
) -> int:
    """Damage `files` files of each kind in `most` ways each, and run `commands` of the commands that read them after
    each damage."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    wrong, damaged_files = [], set()
    for kind, of in kinds.items():
        paths = sorted({path for pattern in of.patterns for path in whole[1].glob(pattern) if path.is_file()})
        assert paths, f"{kind}: the study has no such file"
        chosen = paths[:: max(1, len(paths) // files)][:files]
        # Kinds of few files get more damages.
        ways = max(most, -(-LEAST // len(chosen)))
        for path in chosen:
            data, stat = path.read_bytes(), path.stat()
            here = path.relative_to(whole[1])
            damaged_files.add(here)
            for number, (how, damage) in enumerate(damages(str(here), data, ways).items() if data else ()):
                # Each damage meets other commands, so that few cases meet all of them.
                first = (len(damaged_files) + number) * commands
                for command in {of.commands[(first + one) % len(of.commands)]: None for one in range(commands)}:
                    undamaged = expected(command)
                    restored(whole)
                    here.write_bytes(damage(data))
                    os.utime(here, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                    found = verdict(outcome_of(command), undamaged, here)
                    counts[kind][found.split(" ")[0].rstrip(",:")] += 1
                    if found not in ("refused", "healed", "harmless"):
                        wrong.append(f"{kind}, {here}, {how}, {command.__name__}: {found}")
    print(f"\n{len(damaged_files)} files of {len(kinds)} kinds")
    for kind, of_kind in counts.items():
        print(f"{kind:34} {of_kind.total():5} cases  " + ", ".join(f"{n} {what}" for what, n in of_kind.items()))
    assert not wrong, "\n".join([f"{len(wrong)} cases:", *wrong])
    return len(damaged_files)


LEAST = 4
"""Damages of each kind."""


def test_a_command_that_is_repeated_gives_the_same_numbers(
    whole: tuple[Path, Path], expected: Callable[[Callable[[], Numbers]], Outcome]
) -> None:
    for command in (study.read_store, study.in_notebook, study.shown):
        restored(whole)
        assert outcome_of(command).numbers == expected(command).numbers


def test_the_oracle_sees_a_wrong_number(
    whole: tuple[Path, Path], expected: Callable[[Callable[[], Numbers]], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With readers that do not verify, the campaign fails."""
    monkeypatch.setattr("sam2ft.data.store.store.is_content", lambda *_: True)
    with pytest.raises(AssertionError, match="SILENT"):
        campaign(whole, expected, {"array": KINDS["array"]}, files=2, most=3, commands=1)


# More: SAM2FT_FLIPS=<files of a kind>,<damages of a file>,<commands after each>, such as 16,9,4 (an hour).
@pytest.mark.timeout(7200)
def test_every_kind_of_file(whole: tuple[Path, Path], expected: Callable[[Callable[[], Numbers]], Outcome]) -> None:
    files, most, commands = map(int, os.environ.get("SAM2FT_FLIPS", "6,2,1").split(","))
    counted = campaign(whole, expected, KINDS, files=files, most=most, commands=commands)
    assert counted >= 66

"""Every file of a run that is read back: a damaged one is refused by name or made again, and never another state."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.file_sets import put, spoil

from sam2ft.core.digests import verified_files
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import ClaimedError, UserError
from sam2ft.core.files import DigestCache, read_json, sha256_file, write_json
from sam2ft.runs.attempt.claim import Attempt, check_claim, claim, holder, read_claim
from sam2ft.runs.attempt.status import read_status, status_at_start, update_status
from sam2ft.runs.config_file import planned_experiment
from sam2ft.runs.history import read_history, remove_history, write_history
from sam2ft.runs.identity_file import own_identity, read_identity
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.plan_file import load_plan, newest_plan, save_plan
from sam2ft.runs.provenance import record_provenance, record_unverified, recorded_attempts
from sam2ft.sweeps.plan.measured import read_calibrations
from sam2ft.sweeps.plan.plan import write_configs
from sam2ft.sweeps.submit.records import (
    Record,
    RecordedArray,
    RecordedReport,
    RecordedRun,
    read_record,
    write_record,
)

ELSEWHERE = Attempt("17_3", 2, "node1", 4242, "2026-01-01T00:00:00+00:00")
ROWS = [{"epoch": str(epoch), "step": str(3 * epoch), "improved": "1", "seconds": "2.5"} for epoch in range(3)]
IDENTITY = {"run": "toy-0123456789abcdef", "content": {"settings": {"lr": 1e-4}}, "volumes": {}}
RECORD = Record(
    1,
    "0123456789ab",
    "here",
    "2026-01-01T00:00:00+00:00",
    (RecordedArray("s2ft-1-0", "train", "17", "", (RecordedRun(0, "toy-0123456789abcdef"),)),),
    RecordedReport("s2ft-1-report", None),
)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_files, "_TOLD", set())
    monkeypatch.setattr(verified_files, "_UNVERIFIED", {})


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path / "toy-0123456789abcdef")


@pytest.fixture
def begun(layout: RunLayout) -> RunLayout:
    """A run whose second attempt is at work."""
    claim(layout, replace(ELSEWHERE, restart=1))
    record_provenance(layout, replace(ELSEWHERE, restart=1))
    claim(layout, ELSEWHERE)
    record_provenance(layout, ELSEWHERE)
    update_status(layout, ELSEWHERE, state="training", step=5, trained=True, best_sha256="b" * 64)
    write_history(layout, ROWS)
    write_sealed_json(layout.identity, IDENTITY)
    return layout


def damages(data: bytes, count: int = 60) -> Iterator[bytes]:
    """The bytes with one bit flipped, at sampled places and in the first and last ones; cut; and emptied."""
    rng = random.Random(len(data))
    for place in {0, 1, len(data) - 1, len(data) - 2, *(rng.randrange(len(data)) for _ in range(count))}:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        yield bytes(changed)
    yield from (data[:length] for length in {0, 1, len(data) // 2, len(data) - 1, len(data) - 100} if length >= 0)


def refusal(read: Callable[[], Any], value: Any) -> str | None:
    """The message with which `read` refuses a file; None when it returns `value`, and anything else is a defect."""
    try:
        found = read()
    except (UserError, ClaimedError) as error:
        return str(error)
    assert found == value, "read as something else"
    return None


def assert_found_or_harmless(path: Path, read: Callable[[], Any]) -> None:
    data, value, found, harmless = path.read_bytes(), read(), 0, 0
    for changed in damages(data):
        put(path, changed)
        if (message := refusal(read, value)) is None:
            harmless += 1
        else:
            assert str(path) in message
            assert "\n" not in message
            found += 1
    put(path, data)
    assert read() == value
    assert found > 35
    assert harmless <= 2, "a missing line end alone changes nothing"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("status.json", read_status),
        ("claim.json", read_claim),
        ("claim.json", lambda layout: check_claim(layout, ELSEWHERE)),
        ("provenance.json", recorded_attempts),
        ("identity.json", read_identity),
        ("history.csv", read_history),
    ],
)
def test_flips_and_cuts_of_the_files_of_a_run(begun: RunLayout, name: str, read: Callable[[RunLayout], Any]) -> None:
    assert_found_or_harmless(begun.folder / name, lambda: read(begun))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("status.json", read_status),
        ("claim.json", read_claim),
        ("claim.json", lambda layout: check_claim(layout, ELSEWHERE)),
        ("provenance.json", recorded_attempts),
        ("identity.json", own_identity),
    ],
)
def test_a_valid_file_of_another_run_is_not_read_as_that_of_this_one(
    begun: RunLayout, name: str, read: Callable[[RunLayout], Any]
) -> None:
    read(begun)
    other = RunLayout(begun.folder.with_name("toy-fedcba9876543210"))
    shutil.copytree(begun.folder, other.folder)
    with pytest.raises(
        (UserError, ClaimedError), match=f"{name}: belongs to the run {begun.run_id}, not to {other.run_id}"
    ):
        read(other)


def test_the_record_of_another_submission_is_refused(workplace: Any) -> None:
    write_record(workplace.layout, RECORD)
    assert read_record(workplace.layout, 1) == RECORD
    shutil.copy2(workplace.layout.submission(1), workplace.layout.submission(3))
    with pytest.raises(UserError, match=r"3\.json: not the record .*it is that of submission 1.*then remove it"):
        read_record(workplace.layout, 3)


def test_files_of_a_run_that_name_no_run_are_read(begun: RunLayout) -> None:
    read = {"status.json": read_status, "claim.json": read_claim, "provenance.json": recorded_attempts}
    for name, reader in read.items():
        then = reader(begun)
        value = read_json(begun.folder / name)
        assert value.pop("run") == begun.run_id
        write_json(begun.folder / name, value)
        assert reader(begun) == then


def test_flips_and_cuts_of_the_digest_beside_a_history(begun: RunLayout) -> None:
    path = begun.history.with_name("history.csv.sha256")
    data = path.read_bytes()
    for changed in damages(data):
        put(path, changed)
        message = refusal(lambda: read_history(begun), ROWS)
        assert message is None or str(begun.history) in message


def test_flips_and_cuts_of_plan_record_and_configurations(workplace: Any) -> None:
    resolved, plan = workplace.resolved(), workplace.plan()
    path = save_plan(workplace.layout, plan)
    assert_found_or_harmless(path, lambda: load_plan(workplace.layout, plan.plan_id))
    write_record(workplace.layout, RECORD)
    assert_found_or_harmless(workplace.layout.submission(1), lambda: read_record(workplace.layout, 1))
    write_configs(workplace.layout, resolved, [0])
    run = workplace.run(plan.runs[0])
    assert_found_or_harmless(run.config, lambda: planned_experiment(run.config))
    config = run.evaluation(plan.runs[0].eval_ids[0]).config
    assert_found_or_harmless(config, lambda: planned_experiment(config))


# --- what follows -----------------------------------------------------------------------------------------------------


def test_a_damaged_claim_stops_its_holder_and_is_rebuilt_at_the_next_start(begun: RunLayout, capsys: Any) -> None:
    spoil(begun.claim)
    with pytest.raises(ClaimedError, match=r"claim\.json: .*stops without writing"):
        update_status(begun, ELSEWHERE, step=6)
    with pytest.raises(ClaimedError, match="a later restart has taken over"):
        claim(begun, replace(ELSEWHERE, restart=1, host="node9"))
    assert "known from provenance.json and status.json" in capsys.readouterr().err
    later = replace(ELSEWHERE, restart=3)
    claim(begun, later)
    assert holder(begun) == later
    assert read_claim(begun).restarts == {"17_3": 3}


def test_a_damaged_claim_of_a_run_without_other_files_says_what_to_remove(layout: RunLayout) -> None:
    claim(layout, ELSEWHERE)
    spoil(layout.claim)
    with pytest.raises(UserError, match="remove the file"):
        claim(layout, replace(ELSEWHERE, restart=3))
    layout.claim.unlink()
    claim(layout, replace(ELSEWHERE, restart=3))


def test_a_living_process_is_not_pushed_aside_by_a_damaged_claim(layout: RunLayout) -> None:
    here = replace(Attempt.current({}), pid=os.getppid(), birth="")
    claim(layout, here)
    update_status(layout, here, state="training")
    spoil(layout.claim)
    with pytest.raises(ClaimedError, match="is working on it"):
        claim(layout, replace(here, pid=os.getpid()))


def test_a_running_attempt_writes_its_damaged_status_again(begun: RunLayout, capsys: Any) -> None:
    spoil(begun.status)
    assert update_status(begun, ELSEWHERE, step=6) == read_status(begun)
    assert (read_status(begun).trained, read_status(begun).step) == (True, 6)
    assert "written again by the running attempt" in capsys.readouterr().err


def test_the_next_attempt_puts_a_damaged_status_aside(begun: RunLayout, capsys: Any) -> None:
    spoil(begun.status)
    before = begun.status.read_bytes()
    assert status_at_start(begun) is None
    assert begun.status.with_name("status.damaged.json").read_bytes() == before
    assert not begun.status.exists()
    assert "status.damaged.json" in capsys.readouterr().err


@pytest.mark.parametrize("fresh", [False, True])
def test_a_finished_training_without_resume_files_is_not_replaced(begun: RunLayout, fresh: bool) -> None:
    begun.checkpoints.mkdir()
    begun.best.write_bytes(b"weights")
    spoil(begun.status)
    if fresh:
        assert status_at_start(begun, fresh=True) is None
        return
    with pytest.raises(UserError, match=r"remove best\.pt to train again"):
        status_at_start(begun)
    begun.best.unlink()
    assert status_at_start(begun) is None


def test_a_damaged_provenance_is_kept_beside_the_new_one(begun: RunLayout, capsys: Any) -> None:
    for number, name in enumerate(("provenance.damaged.json", "provenance.damaged-2.json")):
        spoil(begun.provenance)
        before = begun.provenance.read_bytes()
        record_provenance(begun, replace(ELSEWHERE, restart=3 + number))
        assert (begun.folder / name).read_bytes() == before
        assert read_json(begun.provenance)["damaged"] == sorted(path.name for path in begun.folder.glob("*.damaged*"))
        assert [one["attempt"]["restart"] for one in recorded_attempts(begun)] == [3 + number]
    record_provenance(begun, replace(ELSEWHERE, restart=7))
    assert len(recorded_attempts(begun)) == 2
    assert len(read_json(begun.provenance)["damaged"]) == 2
    assert "provenance.damaged-2.json" in capsys.readouterr().err


def test_an_attempt_records_what_it_read_without_a_digest(begun: RunLayout) -> None:
    record_unverified(begun, ELSEWHERE)
    assert not any("unverified" in one for one in recorded_attempts(begun))
    for path in (begun.status, begun.claim):
        write_json(path, read_json(path))
    read_status(begun)
    claim(begun, replace(ELSEWHERE, restart=3))
    record_provenance(begun, replace(ELSEWHERE, restart=3))
    record_unverified(begun, replace(ELSEWHERE, restart=3))
    *earlier, last = recorded_attempts(begun)
    assert last["unverified"] == ["status.json", "claim.json"]
    assert not any("unverified" in one for one in earlier)
    assert verified_files.verified_json(begun.claim)[1], "the next write seals it"


def test_a_history_lies_nowhere_without_its_digest(begun: RunLayout) -> None:
    remove_history(begun)
    assert read_history(begun) == []
    assert not list(begun.folder.glob("history*"))


def test_the_same_plan_is_written_again_where_it_is_damaged(workplace: Any) -> None:
    plan = workplace.plan()
    path = save_plan(workplace.layout, plan)
    good = path.read_bytes()
    for damage in (good[:-30], good.replace(b"toy.yaml", b"joy.yaml"), b""):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"launch/sweep\.py"):
            newest_plan(workplace.layout)
        save_plan(workplace.layout, plan)
        assert path.read_bytes() == good
        assert newest_plan(workplace.layout) == plan


def test_an_edited_configuration_is_accepted_without_its_seal_or_written_again(workplace: Any, capsys: Any) -> None:
    resolved = workplace.resolved()
    write_configs(workplace.layout, resolved, [0, 1])
    config = workplace.run(resolved.runs[0].planned).config
    written = config.read_text()
    edited = written.replace("num_epochs: 2", "num_epochs: 3")
    config.write_text(edited)
    with pytest.raises(UserError, match=r"remove its lines that begin with `# sealed`.*make sweep"):
        planned_experiment(config)
    config.write_text("".join(line for line in edited.splitlines(True) if not line.startswith("# sealed")))
    assert planned_experiment(config).module.num_epochs == 3
    assert str(config) in str(verified_files.unverified_note())
    write_configs(workplace.layout, resolved, [1])
    assert planned_experiment(config).module.num_epochs == 3, "accepted: not replaced unasked"
    config.write_text(edited)
    write_configs(workplace.layout, resolved, [1])
    assert config.read_text() == written
    assert "written again" in capsys.readouterr().err


def test_a_damaged_calibration_is_left_out_with_a_note(workplace: Any, capsys: Any) -> None:
    one, other = workplace.layout.calibration("a" * 12), workplace.layout.calibration("b" * 12)
    for place in (one, other):
        write_sealed_json(place.result, {"stage": "train", "measured": {"step_s": 9.0, "epoch_rest_s": 3.0}})
    spoil(one.result)
    assert list(read_calibrations(workplace.layout).training) == ["b" * 12]
    assert "--calibrate" in capsys.readouterr().err


# --- the cache of digests ---------------------------------------------------------------------------------------------


def test_a_digest_is_taken_again_when_anything_about_the_file_changed(tmp_path: Path) -> None:
    file, other, cache = tmp_path / "w.pt", tmp_path / "x.pt", tmp_path / ".digests.json"
    file.write_bytes(b"weights")
    assert DigestCache(cache).sha256(file) == sha256_file(file)
    spoil(file)  # of the same size and time of modification
    assert DigestCache(cache).sha256(file) == sha256_file(file)
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert DigestCache(cache).sha256(file) == sha256_file(file)
    assert len(read_json(cache)) == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path, capsys: Any) -> None:
    file, cache = tmp_path / "w.pt", tmp_path / ".digests.json"
    file.write_bytes(b"weights")
    DigestCache(cache).sha256(file)
    for damage in [*damages(cache.read_bytes(), 20), b"[]", b'{"a": "b"}', b"\xff"]:
        cache.write_bytes(damage)
        assert DigestCache(cache).sha256(file) == sha256_file(file)
    assert "made again" in capsys.readouterr().err

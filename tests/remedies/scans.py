"""Remedies of scans of folders: archives, masks that lie elsewhere, choices, subjects."""

import contextlib
import csv
import io
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from sam2ft.cli import main as command
from sam2ft.core.errors import DataError, UserError
from sam2ft.data.store.store import Store
from tests.fixtures.messy import Place, write_mask, write_messy, write_patient
from tests.remedies.registry import remedy


def _run(line: str, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> str:
    """What a command line of sam2ft shows, in one line."""
    words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", ["sam2ft", *words])
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        if fails:
            with pytest.raises(UserError) as caught:
                command.main(words)
            print(caught.value, file=out)
        else:
            assert command.main(words) == 0
    return " ".join(out.getvalue().split())


@contextlib.contextmanager
def _place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    yield


def _subjects(store: str) -> list[str]:
    return sorted({volume.key.subject for volume in Store.open(Path(store)).volumes})


@remedy("--unpack DIR unpacks and scans them")
@remedy("give each the name of its structure")
@remedy("read it, then: sam2ft prepare {} --out data/{}")
@remedy("--series chooses them")
@remedy("--force replaces it")
@remedy("give another name to --out", of="is there already; --force")
def what_a_scan_of_a_messy_folder_proposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    with _place(tmp_path, monkeypatch):
        write_messy(tmp_path)
        shown = _run("scan knees --out knees.yaml", monkeypatch)
        text = Path("knees.yaml").read_text()
        Path("knees.yaml").write_text(text.replace("tibial cartilage", "tibia"))
        _run("prepare knees.yaml --out data/knees", monkeypatch)
        assert _subjects("data/knees") == ["P01", "P02", "P03", "P04"]
        assert [label.name for label in Store.open(Path("data/knees")).labels] == ["femoral cartilage", "tibia"]
        shown += _run("scan knees --out knees.yaml --unpack un", monkeypatch, fails=True)
        _run("scan knees --out knees.yaml --unpack un --force", monkeypatch)
        _run("scan knees --out other.yaml --unpack un", monkeypatch)
        for name in ("knees", "other"):
            _run(f"prepare {name}.yaml --out store_{name}", monkeypatch)
            assert _subjects(f"store_{name}") == ["P01", "P02", "P03", "P04", "P06"]
        _run("scan knees --series 'SAG*' --series echo_ms=20 --out echo.yaml", monkeypatch)
        _run("prepare echo.yaml --out echo", monkeypatch)
        assert set(Store.open(Path("echo")).volumes[0].dicom["TE"]) == {20}
    return shown + " ".join(text.split())


@remedy('--series "{}*')
def another_file_is_chosen_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from tests.fixtures.messy import frames, write_volume

    with _place(tmp_path, monkeypatch):
        for number in (1, 2):
            for kind in ("t1", "t2"):
                path = Path(f"study/K{number}/{kind}.nii.gz")
                write_volume(path, frames(number, 1)[0] + len(kind), Place(number).geometry())
            write_mask(Path(f"study/K{number}/seg.nii.gz"), Place(number).geometry())
        _run("scan study --out study.yaml", monkeypatch)
        text = Path("study.yaml").read_text()
        assert "t2.nii.gz" not in text
        _run('scan study --series "t2*" --out other.yaml', monkeypatch)
        assert "t2.nii.gz" in Path("other.yaml").read_text()
        _run("prepare other.yaml --out store", monkeypatch)
    return text


@remedy("name the folder of the masks too")
@remedy("--json lists all")
@remedy("give the folder that holds the images", of="no such folder")
@remedy("give the folder that holds it", of="is a file")
def masks_and_images_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    with _place(tmp_path, monkeypatch):
        for number in (1, 2):
            write_patient(Path(f"knees/K{number}"), number)
            write_mask(Path(f"masks/K{number}.nii.gz"), Place(number).geometry())
        for number in range(3, 15):
            write_mask(Path(f"more/X{number}.nii.gz"), Place(number).geometry())
        shown = _run("scan knees --out knees.yaml", monkeypatch, fails=True)
        shown += _run("scan images masks", monkeypatch, fails=True)
        shown += _run("scan masks/K1.nii.gz", monkeypatch, fails=True)
        shown += _run("scan knees masks more", monkeypatch)
        assert all(f"X{number}.nii.gz" in _run("scan knees masks more --json", monkeypatch) for number in range(3, 15))
        _run("scan knees masks --out knees.yaml", monkeypatch)
        _run("prepare knees.yaml --out store", monkeypatch)
        assert _subjects("store") == ["K1", "K2"]
    return shown


@remedy("give another one to --unpack", of="as in the archive")
def an_archive_whose_folder_holds_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    with _place(tmp_path, monkeypatch):
        write_messy(tmp_path)
        _run("scan knees --unpack un", monkeypatch)
        next(path for path in Path("un/P06").rglob("*") if path.is_file()).unlink()
        shown = _run("scan knees --unpack un", monkeypatch, fails=True)
        assert "6 subjects" in _run("scan knees un", monkeypatch)
        assert "6 subjects" in _run("scan knees --unpack elsewhere", monkeypatch)
    return " ".join(shown.split())


@remedy("give a folder with more space to --unpack")
@remedy("copy it again", of="a zip archive that cannot be read")
@remedy("copy it again", of="holds more than the")
def archives_that_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from sam2ft.data.scan.archives import listed_archive

    with _place(tmp_path, monkeypatch):
        knees = write_messy(tmp_path)
        path, good = knees / "P06.zip", (knees / "P06.zip").read_bytes()
        path.write_bytes(good[: len(good) // 2])
        shown = _run("scan knees", monkeypatch)
        path.write_bytes(good)
        shown += _declared_less(tmp_path)
        path.write_bytes(good)
        with monkeypatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 99})())
            shown += _run("scan knees --unpack un", patch, fails=True)
        assert listed_archive(path).num_files > 20
        assert "6 subjects" in _run("scan knees --unpack elsewhere", monkeypatch)
    return " ".join(shown.split())


def _declared_less(folder: Path) -> str:
    """The message about a member that holds more than it declares."""
    from io import BytesIO
    from types import SimpleNamespace

    from sam2ft.data.scan import archives

    member = SimpleNamespace(file_size=2, filename="a")
    whole = SimpleNamespace(open=lambda _: BytesIO(b"more"))
    with pytest.raises(DataError) as caught:
        archives._write(folder / "P.zip", whole, member, folder)  # type: ignore[arg-type]
    return str(caught.value)


@remedy("copy them again", of="are not there")
@remedy("give each series a folder of its own")
def series_that_lie_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from pydicom.fileset import FileSet

    with _place(tmp_path, monkeypatch):
        files = FileSet()
        for number in (1, 2):
            write_patient(Path(f"knees/K{number}"), number, echoes=1)
            write_mask(Path(f"masks/K{number}.nii.gz"), Place(number).geometry())
        for place, path in enumerate(sorted(Path("knees").rglob("*.dcm"))):
            header = pydicom.dcmread(path)
            header.StudyID, header.StudyTime = "1", "120000"
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{place + 1}"
            files.add(header)
        files.write("media")
        lost = next(path for path in Path("media").rglob("*") if path.is_file() and path.name != "DICOMDIR")
        content = lost.read_bytes()
        lost.unlink()
        shown = _run("scan media", monkeypatch)
        lost.write_bytes(content)
        assert "are not there" not in _run("scan media", monkeypatch)
        # A second series that differs in nothing but its UID.
        for number in (1, 2):
            series = next(Path(f"knees/K{number}").rglob("SAG_PD"))
            for path in list(series.iterdir()):
                header = pydicom.dcmread(path)
                header.SeriesInstanceUID = f"1.2.9.{number}"
                header.SOPInstanceUID = generate_uid()
                header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
                header.save_as(series / f"again_{path.name}")
        shown += _run("scan knees masks", monkeypatch)
        for series in list(Path("knees").rglob("SAG_PD")):
            (series.parent / "AGAIN").mkdir()
            for path in list(series.glob("again_*")):
                shutil.move(path, series.parent / "AGAIN" / path.name)
        _run("scan knees masks --out knees.yaml", monkeypatch)
        _run("prepare knees.yaml --out store", monkeypatch)
        assert _subjects("store") == ["K1", "K2"]
    return shown


@remedy("give them one subject in the table of sources", of="as files do that were made anonymous", case="all")
@remedy(
    "give them one subject in the table of sources, or one person is trained on and tested",
    of="have the same PatientID",
    case="two",
)
def folders_of_one_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> str:
    with _place(tmp_path, monkeypatch):
        write_patient(Path("knees/K0"), 0)
        for number in (1, 2, 3):
            write_patient(Path(f"knees/K{number}"), number)
            write_mask(Path(f"knees/K{number}/seg.nii.gz"), Place(number).geometry())
        same = ("K0", "K1", "K2", "K3") if case == "all" else ("K1", "K2")
        for path in [path for name in same for path in Path(f"knees/{name}").rglob("*.dcm")]:
            header = pydicom.dcmread(path)
            header.PatientID = "ANON"
            header.save_as(path)
        shown = _run("scan knees --out knees.yaml", monkeypatch)
        table = Path("knees.files.csv")
        rows = list(csv.DictReader(table.open()))
        for row in rows:
            row["volume"] = row["subject"]
            row["subject"] = "one" if row["subject"] in same else row["subject"]
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        _run("prepare knees.yaml --out store", monkeypatch)
        assert _subjects("store") == (["one"] if case == "all" else ["K3", "one"])
    return shown


@remedy("write a dataset file for it: sam2ft scan {} --out dataset.yaml")
@remedy("zip archives in a folder are unpacked by: sam2ft scan FOLDER --unpack DIR")
@remedy("list them with: sam2ft scan {}")
def a_folder_in_place_of_a_dataset_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from pydicom.fileset import FileSet

    from sam2ft.data.images.volumes import read_volume

    with _place(tmp_path, monkeypatch):
        for number in (1, 2):
            write_patient(Path(f"my knees/K{number}"), number, echoes=1)
            write_mask(Path(f"my knees/K{number}/mask.nii.gz"), Place(number).geometry())
        shown = _run("prepare 'my knees' --out store", monkeypatch, fails=True)
        _run(_after("write a dataset file for it: sam2ft ", shown), monkeypatch)
        _run("prepare dataset.yaml --out store", monkeypatch)
        assert _subjects("store") == ["K1", "K2"]
        shutil.make_archive("packed/K1", "zip", "my knees", "K1")
        shown += _refused(lambda: read_volume(Path("packed/K1.zip")))
        assert "1 subject" in _run("scan packed --unpack unpacked", monkeypatch)
        files = FileSet()
        for path in Path("my knees").rglob("*.dcm"):
            header = pydicom.dcmread(path)
            header.StudyID, header.StudyTime = "1", "120000"
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
            files.add(header)
        files.write("media")
        of_disc = _refused(lambda: read_volume(Path("media/DICOMDIR")))
        assert "SAG" in _run(_after("list them with: sam2ft ", of_disc), monkeypatch)
    return shown + of_disc


def _after(start: str, text: str) -> str:
    return text.partition(start)[2]


def _refused(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    return str(caught.value)

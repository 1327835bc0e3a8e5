"""What is left of patients: canaries in headers, UIDs, paths and texts, searched in every byte that is written."""

import base64
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from nibabel.nifti1 import Nifti1Extension
from PIL import Image, PngImagePlugin
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from sam2ft.cli.prepare import prepare
from sam2ft.core.errors import IncompleteError
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.phantom.dicom import DicomSeries, write_series

ROOT = Path(__file__).parents[1]
WORD = "QZXKVJ"
"""The beginning of every canary that is text: 10 characters with its number, so that it fits into every VR."""
UID_ROOT = "1.2.826.0.1.3680043.8.498.7719"
PATHS, NAMES, HEADERS = "path", "name", "header"


@dataclass
class Canaries:
    """Makes canaries, each once, and knows what each was planted in."""

    where: dict[str, str] = field(default_factory=dict)

    def word(self, where: str) -> str:
        text = f"{WORD}{len(self.where):04d}"
        self.where[text] = where
        return text

    def uid(self, where: str) -> str:
        text = f"{UID_ROOT}{len(self.where):04d}{int(sha256(where.encode()).hexdigest()[:8], 16):010d}"
        self.where[text] = where
        return text

    def date(self, where: str) -> str:
        number = len(self.where)
        text = f"19{number % 90 + 10:02d}{number % 12 + 1:02d}{number % 28 + 1:02d}"
        assert text not in self.where
        self.where[text] = where
        return text

    def time(self, where: str) -> str:
        text = f"{len(self.where) % 24:02d}1357.{len(self.where):04d}42"
        self.where[text] = where
        return text

    def of_vr(self, vr: str, where: str) -> Any:
        if vr == "DA":
            return self.date(where)
        if vr == "TM":
            return self.time(where)
        if vr == "DT":
            text = self.date(where) + self.time(where)
            self.where[text] = where
            return text
        if vr == "UI":
            return self.uid(where)
        text = self.word(where)
        return {"PN": f"{text}^{text}", "UR": f"http://{text}/x"}.get(vr, text)

    def found(self, content: bytes, where: tuple[str, ...]) -> list[str]:
        """The canaries of `where` in a content: as they are, or in base64, hex, UTF-16, or as a plain sha256."""
        lowered = content.lower()
        hits = {match.decode().upper() for match in re.findall(rf"{WORD.lower()}\d{{4}}".encode(), lowered)}
        for start in (WORD, UID_ROOT):  # of which every canary of its kind begins, so that most files are read once
            if any(form in lowered for form in _disguises(start)) or _in_base64(start, content):
                kind = [text for text in self.where if text.startswith(start)]
                hits |= {t for t in kind if any(f in lowered for f in _disguises(t)) or _in_base64(t, content)}
        digests = set(re.findall(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", lowered))
        digits = {run.strip(b".") for run in re.findall(rb"(?<![0-9a-f])[0-9.]{8,}(?![0-9a-f])", lowered)}
        hits |= {t for t in self.where if sha256(t.encode()).hexdigest().encode() in digests or t.encode() in digits}
        return sorted(f"{self.where[text]}: {text}" for text in hits if self.where[text].startswith(where))


def _disguises(text: str) -> tuple[bytes, ...]:
    return text.encode().hex().encode(), text.lower().encode().hex().encode(), text.lower().encode("utf-16-le")


def _in_base64(text: str, content: bytes) -> bool:
    """Whether a content holds the base64 of the text, wherever in a longer text that was encoded it began."""
    for before in range(3):
        # The characters that depend on the text alone, not on what stands before and behind it.
        first, last = -(-8 * before // 6), 8 * (before + len(text)) // 6
        if base64.b64encode(b"\0" * before + text.encode())[first:last] in content:
            return True
    return False


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what is packed in it."""
    data = path.read_bytes()
    yield str(path.name).encode()
    yield from unpacked(path.name, data)


def unpacked(name: str, data: bytes) -> Iterator[bytes]:
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from unpacked(name, gzip.decompress(data))
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield member.encode()
                yield from unpacked(member, archive.read(member))
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        yield json.dumps({key: str(value) for key, value in Image.open(io.BytesIO(data)).info.items()}).encode()
    elif data[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(data))
        yield str(table.schema).encode() + str(table.schema.metadata).encode()
        yield json.dumps([column.to_pylist() for column in table.columns], default=str).encode()


def search(folder: Path, canaries: Canaries, where: tuple[str, ...] = (PATHS, NAMES, HEADERS)) -> list[str]:
    """A line for every canary in a name or in the content of a file below `folder`."""
    names = "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*")).encode()
    found = [f"names of files: {line}" for line in canaries.found(names, where)]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found += [
                f"{path.relative_to(folder)}: {line}" for part in contents(path) for line in canaries.found(part, where)
            ]
    return found


TEXTS = """\
PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime OtherPatientIDs OtherPatientNames
PatientBirthName PatientMotherBirthName PatientAddress PatientTelephoneNumbers PatientComments AdditionalPatientHistory
EthnicGroup Occupation MedicalAlerts Allergies MilitaryRank BranchOfService CountryOfResidence RegionOfResidence
PatientReligiousPreference ResponsiblePerson ResponsibleOrganization InstitutionName InstitutionAddress
InstitutionalDepartmentName StationName ReferringPhysicianName ReferringPhysicianAddress
ReferringPhysicianTelephoneNumbers PerformingPhysicianName OperatorsName NameOfPhysiciansReadingStudy
RequestingPhysician PhysiciansOfRecord RequestingService StudyDescription SeriesDescription ProtocolName ImageComments
AccessionNumber StudyID RequestedProcedureDescription RequestedProcedureID PerformedProcedureStepDescription
PerformedProcedureStepID CommentsOnThePerformedProcedureStep DeviceSerialNumber ManufacturerModelName SoftwareVersions
Manufacturer SequenceName ContrastBolusAgent AdmissionID CurrentPatientLocation PatientInstitutionResidence
VisitComments InterpretationText TextValue RetrieveURL AdmittingDiagnosesDescription DerivationDescription
DetectorID PlateID CassetteID GantryID StudyComments PatientState SpecialNeeds ReasonForStudy AcquisitionComments
StudyDate SeriesDate AcquisitionDate ContentDate StudyTime SeriesTime AcquisitionTime ContentTime AcquisitionDateTime
StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID DeviceUID IrradiationEventUID
InstanceCreatorUID SynchronizationFrameOfReferenceUID""".split()  # noqa: SIM905  # a table
SEQUENCES = (
    "OtherPatientIDsSequence",
    "ReferencedStudySequence",
    "RequestAttributesSequence",
    "ReferencedPatientSequence",
)


def plant_header(canaries: Canaries) -> Dataset:
    """Every text that a header may have about a person; the same in all files of a series."""
    planted = Dataset()
    for keyword in TEXTS:
        setattr(planted, keyword, canaries.of_vr(dictionary_VR(keyword), f"{HEADERS} {keyword}"))
    for keyword in SEQUENCES:
        inner, item = Dataset(), Dataset()
        inner.PatientID, inner.ReferencedSOPInstanceUID = (
            canaries.word(f"{HEADERS} nested"),
            canaries.uid(f"{HEADERS} nested"),
        )
        item.PatientComments, item.ReferencedImageSequence = canaries.word(f"{HEADERS} {keyword}"), [inner]
        setattr(planted, keyword, [item])
    private = planted.private_block(0x0029, canaries.word(f"{HEADERS} private creator"), create=True)
    for number, vr in enumerate(("LO", "PN", "UT", "UI", "ST", "OB")):
        value = canaries.of_vr(vr, f"{HEADERS} private {vr}")
        private.add_new(number, vr, value.encode() if vr == "OB" else value)
    planted.ImageType = ["ORIGINAL", "PRIMARY", canaries.word(f"{HEADERS} ImageType")]
    return planted


@dataclass(frozen=True)
class Raw:
    """Raw data full of canaries, in a folder of its own."""

    canaries: Canaries
    top: Path
    folder: Path
    dataset: Path
    subjects: dict[str, str]
    """Split -> given names."""


def make_raw(top: Path, of: Store, subject_id: str) -> Raw:
    """DICOM images and NIfTI masks of the volumes of a store; names, paths, headers and comments are canaries."""
    canaries = Canaries()
    folder = top / canaries.word(f"{PATHS} above") / canaries.word(f"{PATHS} of the data")
    images, masks = canaries.word(f"{PATHS} images"), canaries.word(f"{PATHS} masks")
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for record in of.volumes:
        subject, volume = canaries.word(f"{NAMES} of a subject"), canaries.word(f"{NAMES} of a volume")
        series = folder / images / subject / volume
        image = np.asarray(of.image(record.key), dtype=np.float32)[None]
        write_series(series, image, record.geometry, DicomSeries(record.key.subject, 1, "PD", seed=3))
        planted = plant_header(canaries) if record is of.volumes[0] else Dataset()
        planted.PatientName = canaries.word(f"{HEADERS} PatientName")
        planted.SeriesInstanceUID = canaries.uid(f"{HEADERS} SeriesInstanceUID")
        spoil(series, planted, canaries)
        write_mask(folder / masks / f"{subject}_{volume}.nii.gz", of, record, canaries)
        splits[record.split].append(subject)
    (folder / "split.json").write_text(json.dumps(splits))
    dataset = top / canaries.word(f"{PATHS} of the dataset file") / "dataset.yaml"
    dataset.parent.mkdir()
    dataset.write_text(f"""\
# {canaries.word(f"{HEADERS} comment of the dataset file")}
dataset: {{name: toy, anatomy: knee}}
sources: {{images: "{folder}/{images}/{{subject}}/{{volume}}", masks: "{folder}/{masks}/{{subject}}_{{volume}}.nii.gz"}}
labels: {{1: {{name: disc}}, 2: {{name: bar}}}}
split: {{file: {folder}/split.json}}
subject_id: {subject_id}
""")
    return Raw(canaries, top, folder / images, dataset, {split: " ".join(names) for split, names in splits.items()})


def spoil(series: Path, planted: Dataset, canaries: Canaries) -> None:
    for number, path in enumerate(sorted(series.iterdir())):
        header = pydicom.dcmread(path)
        header.update(planted)
        header.SOPInstanceUID = canaries.uid(f"{HEADERS} SOPInstanceUID") if number == 0 else header.SOPInstanceUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        if number == 0:
            header.file_meta.ImplementationVersionName = canaries.word(f"{HEADERS} file meta")
            header.file_meta.SourceApplicationEntityTitle = canaries.word(f"{HEADERS} file meta")
        header.save_as(series / f"{canaries.word(f'{PATHS} file')}-{number}.dcm", enforce_file_format=True)
        path.unlink()


def write_mask(path: Path, of: Store, record: Any, canaries: Canaries) -> None:
    write_nifti(path, of.mask(record.key), record.geometry)
    image = nibabel.load(path)
    header = image.header
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        header[name] = canaries.word(f"{HEADERS} NIfTI {name}").encode()
    header.extensions.append(Nifti1Extension("comment", canaries.word(f"{HEADERS} NIfTI extension").encode()))
    nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header).to_filename(path)


def command(script: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / script, *arguments],
        cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def raw(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Raw]:
    """raw(subject_id): the images of the toy as raw data; its own store is removed."""

    def make(subject_id: str) -> Raw:
        made = make_raw(tmp_path_factory.mktemp("raw"), Store.open(toy.store), subject_id)
        shutil.rmtree(toy.store)
        return made

    return make


@pytest.mark.slow
@pytest.mark.sam2
def test_no_canary_is_in_what_is_written_from_prepare_to_report(
    toy: Any, raw: Callable[[str], Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.folder)
    given = raw("hash")
    assert len(given.canaries.where) >= 119
    said = command("prepare.py", str(given.dataset), "--out", "data/toy", cwd=toy.folder)
    assert given.canaries.found(said.encode(), (HEADERS, NAMES)) == []
    toy.write("num_epochs: 2", "num_epochs: 1")
    output = command("sweep.py", "toy.yaml", "--local", "1", cwd=toy.folder)
    output += command("status.py", "toy.yaml", cwd=toy.folder)
    output += command("aggregate.py", "toy.yaml", "--latex", "--markdown", "--excel", cwd=toy.folder)
    best = next(toy.folder.glob("runs/toy/*/checkpoints/best.pt"))
    output += command("eval.py", "--ckpt", str(best), "--split", "val", cwd=toy.folder)
    assert given.canaries.found(output.encode(), (PATHS, NAMES, HEADERS)) == []
    written = {path.suffix for path in toy.folder.rglob("*") if path.is_file()}
    assert {".csv", ".json", ".yaml", ".html", ".png", ".pt", ".gz", ".parquet", ".npy", ".xlsx"} <= written
    assert search(toy.folder, given.canaries) == []


def test_with_names_as_given_only_these_names_are_in_the_store(
    toy: Any, raw: Callable[[str], Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.folder)
    given = raw("folder")
    prepare(given.dataset, toy.store)
    assert search(toy.store, given.canaries, (PATHS, HEADERS)) == []
    found = " ".join(search(toy.store, given.canaries, (NAMES,)))
    assert all(name in found for names in given.subjects.values() for name in names.split())


DAMAGES: dict[str, Callable[[Path, Canaries], None]] = {
    "two series": lambda path, canaries: edit(path, SeriesInstanceUID=canaries.uid(f"{HEADERS} second series")),
    "text for a number": lambda path, canaries: edit_raw(path, "SliceThickness", canaries.word(f"{HEADERS} number")),
    "text for a position": lambda path, canaries: edit_raw(path, "PixelSpacing", canaries.word(f"{HEADERS} spacing")),
    "text for rows": lambda path, canaries: edit_raw(path, "ImagePositionPatient", canaries.word(f"{HEADERS} rows")),
    "unknown class": lambda path, canaries: of_class(path, canaries.uid(f"{HEADERS} class")),
    "unknown syntax": lambda path, canaries: of_syntax(path, canaries.uid(f"{HEADERS} syntax")),
    "derived": lambda path, canaries: edit(path, ImageType=["DERIVED", "MAP", canaries.word(f"{HEADERS} type")]),
    "cut": lambda path, canaries: path.write_bytes(path.read_bytes()[: path.stat().st_size // 3]) and None,
    "no pixels": lambda path, canaries: without_pixels(path),
    "overwritten": lambda path, canaries: path.write_bytes(canaries.word(f"{HEADERS} content").encode() * 50) and None,
}


def edit(path: Path, **values: object) -> None:
    header = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(header, name, value)
    header.save_as(path)


def edit_raw(path: Path, attribute: str, text: str) -> None:
    header = pydicom.dcmread(path)
    tag = pydicom.datadict.tag_for_keyword(attribute)
    value = f"{text} ".encode() if len(text) % 2 else text.encode()
    header._dict[pydicom.tag.Tag(tag)] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), "DS", len(value), value, 0, False, True
    )
    header.save_as(path)


def of_class(path: Path, uid: str) -> None:
    header = pydicom.dcmread(path)
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = uid
    del header.PixelData
    header.save_as(path)


def of_syntax(path: Path, uid: str) -> None:
    header = pydicom.dcmread(path)
    before = str(header.file_meta.TransferSyntaxUID).encode()
    wanted = uid.encode()[: len(before)]
    content = path.read_bytes()
    path.write_bytes(content.replace(before, wanted.ljust(len(before), b"\0"), 1))


def without_pixels(path: Path) -> None:
    header = pydicom.dcmread(path)
    del header.PixelData
    header.save_as(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_refusal_of_a_damaged_series_quotes_no_header(
    damage: str,
    toy: Any,
    raw: Callable[[str], Raw],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(toy.folder)
    given = raw("hash")
    first = sorted(sorted(given.folder.rglob("*-0.dcm"))[0].parent.iterdir())[1]
    DAMAGES[damage](first, given.canaries)
    message = ""
    try:
        prepare(given.dataset, toy.store)
    except IncompleteError as error:
        message = str(error)
    said = message + "".join(capsys.readouterr())
    assert "toy/s-" in said
    assert given.canaries.found(said.encode(), (HEADERS, NAMES) if not message else (HEADERS,)) == []
    assert search(toy.store, given.canaries) == []


def spoil_bytes(path: Path, change: Callable[[bytearray], object]) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    change(content)
    path.write_bytes(gzip.compress(bytes(content)))


NIFTI_DAMAGES: dict[str, Callable[[Path], None]] = {
    "datatype": lambda path: spoil_bytes(path, lambda content: content.__setitem__(slice(70, 72), b"\x77\x77")),
    "dimensions": lambda path: spoil_bytes(
        path, lambda content: content.__setitem__(slice(40, 44), b"\xff\x7f\xff\x7f")
    ),
    "magic": lambda path: spoil_bytes(path, lambda content: content.__setitem__(slice(344, 348), b"QZX\0")),
    "extension": lambda path: spoil_bytes(
        path, lambda content: content.__setitem__(slice(352, 356), b"\xff\xff\xff\x7f")
    ),
    "offset": lambda path: spoil_bytes(path, lambda content: content.__setitem__(slice(108, 112), b"\0\0\0\x7f")),
    "shifted": lambda path: spoil_bytes(path, lambda content: content.__delitem__(slice(4, 140))),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:300]) and None,
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-6] + b"QZXKVJ") and None,
}


@pytest.mark.parametrize("damage", NIFTI_DAMAGES)
def test_a_refusal_of_a_damaged_mask_quotes_no_header(
    damage: str,
    toy: Any,
    raw: Callable[[str], Raw],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(toy.folder)
    given = raw("hash")
    masks = next(path for path in given.folder.parent.iterdir() if next(path.glob("*.nii.gz"), None))
    NIFTI_DAMAGES[damage](sorted(masks.iterdir())[0])
    message = ""
    try:
        prepare(given.dataset, toy.store)
    except IncompleteError as error:
        message = str(error)
    said = message + "".join(capsys.readouterr())
    assert damage == "extension" or "1 of 6 volumes was refused" in message
    assert given.canaries.found(said.encode(), (HEADERS,)) == []
    assert search(toy.store, given.canaries) == []


NRRD = """\
NRRD0005
# {comment}
type: {type}
dimension: 3
content: {content}
sizes: 64 64 4
encoding: {encoding}
endian: little
space: left-posterior-superior
space directions: (0.5,0,0) (0,0.75,0) (0,0,3)
space origin: (0,0,0)
{key}:={value}
{more}

"""


@pytest.mark.parametrize("more", ["", "a line that is none {}", "byte skip: {}", "thicknesses: {} {} {}", "kinds: {}"])
def test_texts_of_nrrd_headers_are_neither_kept_nor_quoted(
    more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canaries = Canaries()
    data = np.random.default_rng(0).integers(0, 900, size=64 * 64 * 4).astype("<u2")
    for subject in ("a", "b", "c"):
        words = {
            name: canaries.word(f"{HEADERS} NRRD {name}") for name in ("comment", "content", "key", "value", "more")
        }
        line = more.format(*[words["more"]] * 3) if subject == "b" else ""
        head = NRRD.format(**{**words, "more": line}, type="uint16", encoding="raw").replace("\n\n\n", "\n\n")
        (tmp_path / f"{subject}.nrrd").write_bytes(head.encode() + (data + ord(subject) * data % 7).tobytes())
        head = (
            NRRD.format(**{**words, "more": ""}, type="uint8", encoding="raw")
            .replace("\n\n\n", "\n\n")
            .replace("endian: little\n", "")
        )
        (tmp_path / f"{subject}_mask.nrrd").write_bytes(head.encode() + (data > 450).astype("u1").tobytes())
    (tmp_path / "dataset.yaml").write_text(f"""\
dataset: {{name: toy}}
sources: {{images: "{tmp_path}/cases.csv"}}
labels: {{1: {{name: disc}}}}
split: {{train: 1, val: 0, test: 0}}
subject_id: table
subject_table: {tmp_path}/names.csv
""")
    given = {name: canaries.word(f"{NAMES} {name}") for name in "abc"}
    cases = "".join(f"{given[name]},{tmp_path}/{name}.nrrd,{tmp_path}/{name}_mask.nrrd\n" for name in "abc")
    (tmp_path / "cases.csv").write_text(f"subject,image,mask\n{cases}")
    (tmp_path / "names.csv").write_text("given,subject\n" + "".join(f"{given[name]},P{name}\n" for name in "abc"))
    message = ""
    try:
        prepare(tmp_path / "dataset.yaml", tmp_path / "store")
    except IncompleteError as error:
        message = str(error)
    assert canaries.found((message + "".join(capsys.readouterr())).encode(), (HEADERS, NAMES)) == []
    assert search(tmp_path / "store", canaries) == []
    assert {volume.key.subject for volume in Store.open(tmp_path / "store").volumes} >= {"Pa", "Pc"}


def _png(text: str) -> bytes:
    info, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("Comment", text, zip=True)
    Image.new("L", (4, 4)).save(stream, "png", pnginfo=info)
    return stream.getvalue()


def _zip(text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", text)
    return stream.getvalue()


def _parquet(text: str) -> bytes:
    import pyarrow as pa

    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [text, "b"]}), stream, compression="zstd")
    return stream.getvalue()


HIDDEN: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "lower case": lambda text: text.lower().encode(),
    "UTF-16": lambda text: text.lower().encode("utf-16-le"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "base64": lambda text: base64.b64encode(b"xy" + text.encode() + b"zzz"),
    "hex": lambda text: text.encode().hex().encode(),
    "sha256": lambda text: sha256(text.encode()).hexdigest().encode(),
    "png": _png,
    "zip": _zip,
    "parquet": _parquet,
}


@pytest.mark.parametrize("way", HIDDEN)
def test_the_search_finds_a_canary_however_it_is_packed(way: str, tmp_path: Path) -> None:
    canaries = Canaries()
    word, uid = canaries.word(f"{HEADERS} word"), canaries.uid(f"{HEADERS} uid")
    other = canaries.word(f"{HEADERS} not planted")
    for name, text in (("a", word), ("b", uid)):
        (tmp_path / name).write_bytes(HIDDEN[way](text))
    found = " ".join(search(tmp_path, canaries))
    assert word in found
    assert uid in found
    assert other not in found


def test_what_the_user_asks_to_keep_is_kept_and_found(
    toy: Any, raw: Callable[[str], Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.folder)
    given = raw("hash")
    given.dataset.write_text(given.dataset.read_text() + "keep: [SeriesDescription]\n")
    prepare(given.dataset, toy.store)
    found = search(toy.store, given.canaries)
    assert found
    assert all("header SeriesDescription" in line for line in found)

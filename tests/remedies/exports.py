"""Remedies of `sam2ft export nnunet`."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from sam2ft.core.errors import UserError
from sam2ft.data.export.nnunet_export import nnunet_export
from sam2ft.data.export.nnunet_folder import write_nnunet
from sam2ft.data.store.store import Store
from tests.remedies.conftest import Raw
from tests.remedies.registry import excused, executed_by, remedy

FOLDER = "tests/data/export/test_nnunet_folder.py::"

excused(
    "no remedy",
    ("export {}", "^export {}"),
    "nnUNetv2_plan_and_preprocess -d {} --verify_dataset_integrity",
    "# Prepares this export again, in the folder in which it was made: the path below is that of --out",
)
executed_by("give another number with --id", test=f"{FOLDER}test_what_sam2ft_did_not_write_is_never_replaced")
executed_by("give another --id or --out", test=f"{FOLDER}test_what_sam2ft_did_not_write_is_never_replaced")
executed_by("remove it", "^give another --id or --out", test=f"{FOLDER}test_what_was_removed_makes_room")
executed_by(
    "wait until it has ended", "another export is writing it", test=f"{FOLDER}test_two_exports_at_once_are_refused"
)
executed_by(
    "leave these out with --leave-out-partial",
    test="tests/data/export/test_nnunet_export.py::test_partial_labels_are_refused_or_left_out",
)


@dataclass(frozen=True)
class Wrong:
    """What stands in the dataset file, and what the message says to write in its place."""

    wrong: tuple[str, str]
    right: tuple[str, str]


RESERVED = Wrong(("name: cartilage", "name: background"), ("name: cartilage", "name: tissue"))
UNTRAINED = Wrong(("SPLIT", "split: {train: 0, val: 0, test: 1}"), ("SPLIT", "split: {train: 0.5, val: 0.5, test: 0}"))


@remedy("give it another name in the dataset file", of="has a name that nnU-Net reserves", case=RESERVED)
@remedy("run launch/prepare.py again", of="has a name that nnU-Net reserves", case=RESERVED)
@remedy("give some subjects to train in the dataset file", of="nothing to train on", case=UNTRAINED)
@remedy("run launch/prepare.py again", of="nothing to train on", case=UNTRAINED)
def a_store_that_nnunet_cannot_train_on(raw: Raw, case: Wrong) -> str:
    text = raw.yaml.read_text()
    split = next(line for line in text.splitlines() if line.startswith("split:"))

    def prepared(change: tuple[str, str], out: str) -> Store:
        old, new = change
        raw.yaml.write_text(text.replace(split if old == "SPLIT" else old, new))
        raw.prepare(out=out)
        return Store.open(Path(out))

    with pytest.raises(UserError) as refused:
        nnunet_export(prepared(case.wrong, "store"), 501)
    assert write_nnunet(nnunet_export(prepared(case.right, "again"), 501), Path("raw"))
    return str(refused.value)


@remedy("give it another name in the sources of the dataset", of="begins with a point")
@remedy("run launch/prepare.py again", of="begins with a point")
def a_subject_whose_files_would_be_hidden(raw: Raw) -> str:
    text, table = raw.yaml.read_text(), Path("table.csv")
    sources = next(line for line in text.splitlines() if line.startswith("sources:"))
    raw.yaml.write_text(text.replace(sources, "sources: {images: table.csv}"))

    def prepared(name: str, out: str) -> Store:
        table.write_text(f"subject,image,mask\n{name},dicom/a,masks/a.nii.gz\nb,dicom/b,masks/b.nii.gz\n")
        raw.prepare(out=out)
        return Store.open(Path(out))

    with pytest.raises(UserError) as refused:
        nnunet_export(prepared(".a", "store"), 501)
    assert write_nnunet(nnunet_export(prepared("a", "again"), 501), Path("raw"))
    return str(refused.value)

# ruff: noqa: E501 (tables are read by column)
"""Dataset files and label tables."""

from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.load_dataset import load_dataset, load_label_table
from sam2ft.core.errors import ProblemsError
from sam2ft.core.labels import Label

TEXT = """\
dataset: {name: oai_knee, anatomy: knee}
sources:
  images: "dicom/{subject}/{volume}"
  masks: "masks/{subject}_{volume}.nii.gz"
  maps: {t2: "echoes/{subject}/{volume}", t1rho: {series: "lock/{subject}/{volume}", spin_lock_ms: [0, 10, 40, 80]}}
labels:
  1: {name: femoral cartilage, interface: femur}
  5: {name: femur, merge: [5, 25]}
labels_dropped: [9]
intensity: {clip_percentiles: [0.5, 99.5]}
split: {train: 0.7, val: 0.15, test: 0.15, seed: 42}
keep: [SeriesDescription]
"""


def test_a_dataset_file_becomes_a_value(write: Any) -> None:
    config = load_dataset(write(TEXT))
    assert config.dataset.name == "oai_knee"
    assert config.labels.labels == (Label(1, "femoral cartilage", "femur"), Label(5, "femur"))
    assert config.changes == {1: 1, 5: 5, 25: 5, 9: 0}
    assert config.sources.map_patterns == {"t2": "echoes/{subject}/{volume}", "t1rho": "lock/{subject}/{volume}"}
    assert config.split.train == 0.7
    assert config.intensity.clip_percentiles == (0.5, 99.5)
    assert config.keep == ("SeriesDescription",)


def test_defaults_are_those_of_the_documentation(write: Any) -> None:
    text = (
        'dataset: {name: x}\nsources: {images: "i/{subject}.nii", masks: "m/{subject}.nii"}\nlabels: {1: {name: a}}\n'
    )
    config = load_dataset(write(text))
    assert (config.split.train, config.split.val, config.split.test, config.split.seed) == (0.7, 0.15, 0.15, 42)
    assert config.intensity.clip_percentiles == (0.5, 99.5)
    assert config.changes == {1: 1}


def test_merged_labels_say_what_their_own_number_means(write: Any) -> None:
    """In one label convention 1 is the spleen: merging 26 to 50 into label 1 must not make spleens vertebrae."""
    text = TEXT.replace("5: {name: femur, merge: [5, 25]}", "5: {name: femur, merge: [25]}")
    config = load_dataset(write(text.replace("labels_dropped: [9]", "labels_dropped: [5]")))
    assert config.changes == {1: 1, 25: 5, 5: 0}


def test_others_drops_every_number_that_is_not_named(write: Any) -> None:
    config = load_dataset(write(TEXT.replace("[9]", "others").replace("merge: [5, 25]", "merge: [25]")))
    assert [config.changes[number] for number in (1, 5, 25, 2, 65535)] == [1, 0, 5, 0, 0]


def test_what_a_stored_volume_depends_on_changes_with_labels_but_not_with_the_split(write: Any) -> None:
    base = load_dataset(write(TEXT)).conversion
    assert load_dataset(write(TEXT.replace("seed: 42", "seed: 43"))).conversion == base
    assert load_dataset(write(TEXT.replace("[9]", "[9, 10]"))).conversion != base
    assert load_dataset(write(TEXT.replace("[5, 25]", "[5, 26]"))).conversion != base


def test_a_table_of_cases_stands_for_patterns(write: Any, problems_of: Any) -> None:
    text = "dataset: {name: x}\nsources: {images: cases.csv}\nlabels: {1: {name: a}}\nsplit: {file: s.json}\n"
    config = load_dataset(write(text))
    assert config.sources.is_table
    assert config.split.file == Path("s.json")
    text = text.replace("images: cases.csv", "images: cases.csv, masks: 'm/{subject}'")
    assert problems_of(load_dataset, write(text)) == [
        "file.yaml:2: sources.masks: masks are listed in the table that images: names; leave the key out"
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("oai_knee", "oai knee", '1: dataset.name: found "oai knee"; allowed: up to 64 letters'),
        ("{subject}/{volume}", "{subjct}", '3: sources.images: found "dicom/{subjct}"; allowed: a path with {subject}'),
        ("dicom/{subject}/{volume}", "dicom/all", '3: sources.images: found "dicom/all"; allowed: a path with {subject}'),
        ("dicom/{subject}/{volume}", "dicom/{volume}", '3: sources.images: found "dicom/{volume}"; allowed: a path with'),
        ("{subject}/{volume}", "{subject}/{side}", '3: sources.images: found "dicom/{subject}/{side}"; allowed: a path'),
        ("dicom/{subject}/{volume}", "dicom/{subject}", "4: sources.masks: has {volume}, but the pattern of the images does not"),
        ('  masks: "masks/{subject}_{volume}.nii.gz"\n', "", "2: sources.masks: missing; pattern of the masks"),
        ("t2:", "t3:", '5: sources.maps.t3: found "t3"; allowed: t2, t1rho'),
        ("spin_lock_ms", "spin_lock", "5: sources.maps.t1rho.spin_lock: unknown key (did you mean spin_lock_ms?)"),
        ("[0, 10, 40, 80]", "[0, 10, 10]", "5: sources.maps.t1rho.spin_lock_ms: found [0, 10, 10]; allowed: each time once"),
        ("spin_lock_ms: [0, 10, 40, 80]", "spin_lock_ms: [0, 10, 40], unit: s", "5: sources.maps.t1rho.unit: is the unit of a map file"),
        ("t2: \"echoes/{subject}/{volume}\"", "t2: {file: \"e/{subject}\", unit: us}", "5: sources.maps.t2.unit: found \"us\""),
        ("{clip_percentiles: [0.5, 99.5]}", "{clip_percentiles: [0.5, 99.5], window: [0, 1]}", "10: intensity: has clip_percentiles and window; allowed: one of"),
        ("{clip_percentiles: [0.5, 99.5]}", "{zscore: [-3, 3], window: [0, 1]}", "10: intensity: has window and zscore; allowed: one of"),
        ("{clip_percentiles: [0.5, 99.5]}", "{window: [240, -160]}", "10: intensity.window: found [240, -160]; allowed: two increasing numbers"),
        (", spin_lock_ms: [0, 10, 40, 80]", "", "5: sources.maps.t1rho.spin_lock_ms: missing; no standard DICOM tag contains"),
        ("{series:", "{file:", "5: sources.maps.t1rho.spin_lock_ms: is a setting of a fit, but file is a finished map"),
        ("{series: \"lock/{subject}/{volume}\", ", "{", "5: sources.maps.t1rho: missing: file or series"),
        ("{series:", "{file: \"m/{subject}\", series:", "5: sources.maps.t1rho: has both file and series; allowed: one"),
        ("t2: \"echoes/{subject}/{volume}\"", "t2: {series: \"e/{subject}\", spin_lock_ms: [0, 1]}", "5: sources.maps.t2.spin_lock_ms: applies to t1rho only"),
        ("interface: femur}", "interface: femr}", '7: labels.1.interface: found "femr" (did you mean femur?); allowed: femur'),
        ("name: femur,", "name: femoral cartilage,", '7: labels.1.name: found "femoral cartilage" twice'),
        ("  5:", "  0:", '8: labels.0: found 0; allowed: a label id, 1 to 65535 (0 is background)'),
        ("  5:", "  05:", '8: labels.05: found 05; allowed: a label id'),
        ("[5, 25]", "[25]", "8: labels.5.merge: does not define what the integer 5 in a mask means; list it here"),
        ("[5, 25]", "[5, 9]", "8: labels.5.merge: 9 is also in labels_dropped; allowed: one place"),
        ("[5, 25]", "[5, 1]", "8: labels.5.merge: 1 is also in labels.1; allowed: one place"),
        ("[5, 25]", "other", '8: labels.5.merge: found "other" (did you mean others?); allowed: others or a list'),
        ("[9]", "others\ninstances: {source: given}", '10: instances.source: found "given"'),
        ("[9]", "[9]\ninstances: {min_mm3: -1}", "10: instances.min_mm3: found -1; allowed: at least 0"),
        ("[9]", "other", '9: labels_dropped: found "other" (did you mean others?); allowed: others or a list'),
        ("[0.5, 99.5]", "[99.5, 0.5]", "10: intensity.clip_percentiles: found [99.5, 0.5]; allowed: two increasing"),
        ("train: 0.7", "train: 0.8", "11: split: train 0.8 + val 0.15 + test 0.15 is 1.1; allowed: 1"),
        ("train: 0.7", "train: 0.6", "11: split: train 0.6 + val 0.15 + test 0.15 is 0.9; allowed: 1"),
        ("train: 0.7, val: 0.15", "train: 1.2, val: -0.35", "11: split.val: found -0.35; allowed: at least 0"),
        ("seed: 42", "file: s.json", "11: split.train: the file defines the splits; leave the key out"),
        ("SeriesDescription", "PatientName", '12: keep.0: found "PatientName"'),
    ],
)  # fmt: skip
def test_a_wrong_dataset_file(write: Any, problems_of: Any, old: str, new: str, problem: str) -> None:
    assert old in TEXT
    found = problems_of(load_dataset, write(TEXT.replace(old, new, 1)))
    assert any(text.startswith(f"file.yaml:{problem}") for text in found), found


def changes(write: Any, labels: str, dropped: str = "[]") -> Any:
    """Integer of a mask -> label id, of those up to 12."""
    text = TEXT[: TEXT.index("labels:")] + f"labels: {labels}\nlabels_dropped: {dropped}\n"
    return {raw: label for raw, label in load_dataset(write(text)).changes.items() if raw <= 12}


@pytest.mark.parametrize(
    ("labels", "dropped", "expected"),
    [
        ("{1: {name: cell, merge: others}}", "[]", dict.fromkeys(range(1, 13), 1)),
        ("{1: {name: cell, merge: others}, 5: {name: bone}}", "[]", dict.fromkeys(range(1, 13), 1) | {5: 5}),
        ("{7: {name: cell, merge: others}, 5: {name: bone, merge: [5, 6]}}", "[2]",
         dict.fromkeys(range(1, 13), 7) | {5: 5, 6: 5, 2: 0}),
    ],
)  # fmt: skip
def test_all_other_integers_may_become_one_label(
    write: Any, labels: str, dropped: str, expected: dict[int, int]
) -> None:
    assert changes(write, labels, dropped) == expected


@pytest.mark.parametrize(
    ("labels", "dropped", "problem"),
    [
        ("{1: {name: a, merge: others}, 2: {name: b, merge: others}}", "[]", "labels.2.merge: found others, as in labels.1"),
        ("{1: {name: a, merge: others}}", "others", "labels.1.merge: found others, as in labels_dropped; allowed: one"),
    ],
)  # fmt: skip
def test_all_other_integers_have_one_place(
    write: Any, problems_of: Any, labels: str, dropped: str, problem: str
) -> None:
    text = TEXT[: TEXT.index("labels:")] + f"labels: {labels}\nlabels_dropped: {dropped}\n"
    assert any(problem in found for found in problems_of(load_dataset, write(text)))


def test_only_chosen_settings_of_instances_change_what_is_stored(write: Any) -> None:
    plain, same = (
        load_dataset(write(TEXT)),
        load_dataset(write(TEXT + "instances: {source: components, min_mm3: null}")),
    )
    assert plain.conversion == same.conversion
    chosen = load_dataset(write(TEXT + "instances: {source: as_given, min_mm3: 50.0}"))
    assert chosen.conversion == {**plain.conversion, "instances.source": "as_given", "instances.min_mm3": 50.0}


def test_a_label_table_alone(write: Any, problems_of: Any) -> None:
    path = write("labels:\n  2: {name: tibia}\n  1: {name: cartilage, interface: tibia}\n")
    assert load_label_table(path).labels == (Label(1, "cartilage", "tibia"), Label(2, "tibia"))
    assert problems_of(load_label_table, write("labels: {}\nname: x")) == [
        "file.yaml:1: labels: found 0 entries; allowed: at least 1",
        "file.yaml:2: name: unknown key; allowed: labels",
    ]


def test_a_dataset_extends_nothing(write: Any, problems_of: Any) -> None:
    (found,) = problems_of(load_dataset, write(TEXT + "extends: x.yaml\n"))
    assert found.startswith("file.yaml:13: extends: unknown key")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            '"m/{subject"',
            "a path with {subject}; names in braces are letters, digits and underscores, and begin with a",
        ),
        ("{}", "a pattern, or a mapping {label: pattern}"),
        ('"m/**x/{subject}"', "** as a whole part of a path (any number of folders), * inside of one"),
        ("3", "text or a mapping"),
        ("{femur: 3}", "text"),
    ],
)
def test_only_the_problems_of_the_alternative_that_fits_are_reported(tmp_path: Path, masks: str, message: str) -> None:
    (tmp_path / "d.yaml").write_text(
        f'dataset: {{name: t}}\nsources: {{images: "i/{{subject}}", masks: {masks}}}\nlabels: {{1: {{name: femur}}}}\n'
    )
    with pytest.raises(ProblemsError) as caught:
        load_dataset(tmp_path / "d.yaml")
    assert str(caught.value).count("allowed:") == 1
    assert f"allowed: {message}" in str(caught.value)

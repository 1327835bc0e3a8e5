"""Remedies of experiment and dataset files, sweeps and commands: what is written into a YAML or typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.yaml.loading import load_yaml
from sam2ft.core.digests.sealed import sealed_yaml
from sam2ft.core.digests.verified_files import read_with_digest, write_with_digest
from tests.remedies.conftest import DATASET, Desk, refusal
from tests.remedies.registry import remedy


@dataclass(frozen=True)
class Edited:
    """Text added to the module section of the toy experiment, and what it becomes when the remedy is followed."""

    wrong: str
    right: str
    changed: str = "  use_amp: false\n"


def _augmented(entry: str) -> str:
    return f"datamodule: {{bbox_shift: 2, augmentation: [{entry}]"


AUGMENTED = "datamodule: {bbox_shift: 2"


@remedy(
    "use module.ema",
    case=Edited(
        "  use_amp: false\n  scheduler: {type: SWALR, swa_lr: 0.1}\n",
        "  use_amp: false\n  ema: {decay: 0.99}\n",
    ),
)
@remedy(
    "use Rand2DElastic",
    case=Edited(
        _augmented("{type: Rand3DElastic}"),
        _augmented("{type: Rand2DElastic, spacing: [20, 20], magnitude_range: [1, 2]}"),
        AUGMENTED,
    ),
)
@remedy(
    "use RandGaussianSmooth",
    case=Edited(_augmented("{type: RandSimulateLowResolution}"), _augmented("{type: RandGaussianSmooth}"), AUGMENTED),
)
@remedy(
    "use RandCoarseDropout",
    case=Edited(
        _augmented("{type: RandCoarseShuffle, holes: 1, spatial_size: 4}"),
        _augmented("{type: RandCoarseDropout, holes: 1, spatial_size: 4}"),
        AUGMENTED,
    ),
)
@remedy(
    "use RandFlip with spatial_axis",
    case=Edited(_augmented("{type: RandAxisFlip}"), _augmented("{type: RandFlip, spatial_axis: 0}"), AUGMENTED),
)
@remedy(
    "use its random form, whose name begins with Rand",
    case=Edited(_augmented("{type: GaussianSmooth}"), _augmented("{type: RandGaussianSmooth}"), AUGMENTED),
)
@remedy(
    "use seg_loss_weight and ce_loss_weight",
    case=Edited(
        "  use_amp: false\n  loss: {seg: DiceLoss, seg_args: {weight: 2}}\n",
        "  use_amp: false\n  loss: {seg: DiceLoss, seg_loss_weight: 2, ce_loss_weight: 1}\n",
    ),
)
@remedy(
    "leave out both to cover all epochs",
    case=Edited(
        "  use_amp: false\n  scheduler: {type: OneCycleLR, max_lr: 0.1, epochs: 3}\n",
        "  use_amp: false\n  scheduler: {type: OneCycleLR, max_lr: 0.1}\n",
    ),
)
@remedy(
    "leave the key out",
    of="only ReduceLROnPlateau does",
    case=Edited(
        "  use_amp: false\n  scheduler: {type: StepLR, step_size: 3, monitor: val_loss}\n",
        "  use_amp: false\n  scheduler: {type: StepLR, step_size: 3}\n",
    ),
)
@remedy(
    "set that instead",
    case=Edited("eval: {protocol: box_jitter,", "eval: {protocol: box, bbox_shift: 3,", "eval: {"),
)
@remedy(
    "leave the key out",
    of="is used by protocol boxes_file only",
    case=Edited("eval: {boxes_file: boxes.csv,", "eval: {", "eval: {"),
)
@remedy(
    "write the value itself",
    case=Edited("seed: !!int 42", "seed: 42", "seed: 42"),
)
@remedy(
    "write the keys",
    of="is not part of YAML 1.2",
    case=Edited("  use_amp: false\n  <<: {num_epochs: 3}\n", "  use_amp: false\n"),
)
def a_key_of_an_experiment(toy: Any, case: Edited) -> str:
    toy.write(case.changed, case.wrong)
    shown = refusal(lambda: load_experiment(Path("toy.yaml")))
    toy.write(case.changed, case.right)
    load_experiment(Path("toy.yaml"))
    return shown


@remedy("use extends", of="is not part of YAML 1.2")
def merged_keys(toy: Any) -> str:
    toy.write("  use_amp: false\n", "  use_amp: false\n  <<: {num_epochs: 3}\n")
    shown = refusal(lambda: load_experiment(Path("toy.yaml")))
    toy.write()
    Path("other.yaml").write_text("extends: toy.yaml\nmodule: {num_epochs: 3}\n")
    assert load_experiment(Path("other.yaml")).experiment.module.num_epochs == 3
    return shown


@remedy("save the file as UTF-8", of="not UTF-8: byte")
def an_experiment_in_latin_1(toy: Any) -> str:
    text = "# Größe\n" + toy.experiment.read_text()
    for encoding in ("latin-1", "utf-16", "cp1252"):
        toy.experiment.write_bytes(text.encode(encoding))
        shown = refusal(lambda: load_experiment(Path("toy.yaml")))
    toy.experiment.write_bytes(text.encode())
    load_experiment(Path("toy.yaml"))
    return shown


@remedy("remove its lines that begin with `# sealed`")
def a_sealed_file_that_was_edited(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(sealed_yaml("a: 1\nb: 2\n").replace("a: 1", "a: 3"))
    shown = refusal(lambda: load_yaml(path))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("# sealed")))
    assert load_yaml(path).value == {"a": 3, "b": 2}
    return shown


@remedy("remove both lines to accept an edit by hand")
def a_sealed_file_as_it_is_read(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    shown = sealed_yaml("a: 1\nb: 2\n")
    lines = shown.replace("a: 1", "a: 3").splitlines(True)
    path.write_text("".join(line for line in lines if "sealed" not in line))
    assert len(lines) - len(path.read_text().splitlines()) == 2
    assert load_yaml(path).value == {"a": 3, "b": 2}
    return shown


@remedy("remove {} to accept it as it is")
def a_file_and_its_digest_apart(tmp_path: Path) -> str:
    path = tmp_path / "history.csv"
    for content in (b"edited", b"", b"x" * 1000):
        write_with_digest(path, b"epoch,loss\n")
        path.write_bytes(content)
        shown = refusal(lambda: read_with_digest(path))
        Path(shown.partition("; remove ")[2].partition(" to accept")[0]).unlink()
        read_with_digest(path)
        path.unlink()
    return shown


# --- sweeps ---------------------------------------------------------------------------------------------------------

SWEEP = "sweep:\n  grid: {module.optimizer.lr: [1e-3, 1e-4]}\n"


@dataclass(frozen=True)
class Swept:
    """A sweep that is refused, and the one that the remedy leads to."""

    wrong: str
    right: str


@remedy(
    "choose another name",
    of="name of the untrained model's point",
    case=Swept(
        "sweep:\n  points: {baseline: {module.num_epochs: 3}}\n", "sweep:\n  points: {short: {module.num_epochs: 3}}\n"
    ),
)
@remedy(
    "write it before that key",
    case=Swept(
        "sweep:\n  zip: {module.optimizer.lr: [1e-3], module.optimizer: [{type: SGD, lr: 0.1}]}\n",
        "sweep:\n  zip: {module.optimizer: [{type: SGD, lr: 0.1}], module.optimizer.lr: [1e-3]}\n",
    ),
)
def a_sweep(toy: Any, case: Swept) -> str:
    toy.write(more=case.wrong)
    shown = refusal(lambda: load_experiment(Path("toy.yaml")))
    toy.write(more=case.right)
    assert len(load_experiment(Path("toy.yaml")).points) >= 1
    return shown


@remedy("use --set {}=[...], or --set sweep=null")
def a_swept_axis_set_to_one_value(toy: Any) -> str:
    toy.write(more=SWEEP)
    shown = refusal(lambda: load_experiment(Path("toy.yaml"), ["module.optimizer.lr=1e-2"]))
    named = shown.partition("use --set ")[2].partition("=")[0]
    assert len(load_experiment(Path("toy.yaml"), [f"{named}=[1e-2, 2e-2, 3e-2]"]).points) == 3
    assert len(load_experiment(Path("toy.yaml"), ["module.optimizer.lr=1e-2", "sweep=null"]).points) == 1
    return shown


@remedy("leave it out", of="or use --set sweep=null")
@remedy("use --set sweep=null")
def a_key_of_a_random_search_set_to_one_value(toy: Any) -> str:
    toy.write(more="sweep:\n  random: {num: 2, parameters: {module.optimizer.lr: {uniform: [0.1, 0.2]}}}\n")
    shown = refusal(lambda: load_experiment(Path("toy.yaml"), ["module.optimizer.lr=1e-2"]))
    assert len(load_experiment(Path("toy.yaml")).points) == 2
    assert len(load_experiment(Path("toy.yaml"), ["module.optimizer.lr=1e-2", "sweep=null"]).points) == 1
    return shown


# --- dataset files --------------------------------------------------------------------------------------------------


@remedy(
    "leave the key out",
    of="masks are listed",
    case=(
        ('"dicom/{subject}"', "table.csv"),
        ('{images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}', "{images: table.csv}"),
    ),
)
@remedy(
    "leave the key out",
    of="the file defines the splits",
    case=(("split: {train: 1, val: 0, test: 0}", "split: {file: s.json, train: 1}"),
          ("split: {train: 1, val: 0, test: 0}", "split: {file: s.json}")),
)  # fmt: skip
@remedy(
    "list it here, or in labels_dropped",
    case=(
        ("{1: {name: cartilage}}", "{1: {name: cartilage, merge: [2]}}"),
        ("{1: {name: cartilage}}", "{1: {name: cartilage, merge: [1, 2]}}"),
    ),
)
@remedy(
    "leave the key out",
    of="is a setting of a fit",
    case=(
        ('gz"}', 'gz", maps: {t2: {file: "m/{subject}.nii.gz", r2_min: 0.5}}}'),
        ('gz"}', 'gz", maps: {t2: {file: "m/{subject}.nii.gz"}}}'),
    ),
)
@remedy(
    "leave the key out",
    of="is the unit of a map file, but a fit gives ms; leave",
    case=(
        ('gz"}', 'gz", maps: {t2: {series: "m/{subject}", unit: s}}}'),
        ('gz"}', 'gz", maps: {t2: {series: "m/{subject}"}}}'),
    ),
)
def a_key_of_a_dataset_file(tmp_path: Path, case: tuple[tuple[str, str], tuple[str, str]]) -> str:
    path = tmp_path / "ds.yaml"
    wrong, right = case
    assert wrong[0] in DATASET
    assert right[0] in DATASET
    path.write_text(DATASET.replace(*wrong))
    shown = refusal(lambda: load_dataset(path))
    path.write_text(DATASET.replace(*right))
    load_dataset(path)
    return shown


# --- commands -------------------------------------------------------------------------------------------------------


@remedy("launch/sweep.py experiments/NAME.yaml", case=("launch/sweep.py", "launch/sweep.py toy.yaml --dry-run"))
@remedy(
    "--phantom-check needs --spacing ROW,COLUMN,SLICE",
    case=(
        "launch/prepare.py --phantom-check",
        "launch/prepare.py --phantom-check --spacing 5,5,5",
    ),
    slow=True,
)
@remedy(
    "--spacing and --json need --phantom-check",
    case=(
        "launch/prepare.py --spacing 5,5,5 --json --phantom knee --out x",
        "launch/prepare.py --spacing 5,5,5 --json --phantom-check",
    ),
    slow=True,
)
def a_command_that_lacks_an_option(toy: Any, desk: Desk, case: tuple[str, str]) -> str:
    shown = desk.refused(case[0])
    desk.works(case[1])
    return shown

"""What a run's name is the hash of, kept beside it (identity.json), and what of it is different now. No torch.

A name says that something changed, not what: the file does. It also lists the content digest of every volume of the
run's stores, so that a store that is prepared again while a run waits or trains is noticed volume by volume.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam2ft.config.identity import IDENTITY_VERSION, eval_id, id_of, run_content
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import CheckpointError, DataError
from sam2ft.core.files import canonical_json, read_json, sha256_file, write_json
from sam2ft.data.store.store import Store, VolumeRecord, records_digest
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.provenance import code_digest
from sam2ft.runs.stores import file_digests

Content = Mapping[str, Any]
"""A `run_content`, without the digests of single volumes."""

_ABSENT = "nothing"
_ANEW = "remove it to go on without it, or start anew with --fresh (launch/train.py) or --force (launch/sweep.py)"
_SHOWN = 8
_DIGEST_CHARACTERS = 12
_NAMES = {
    "slices_per_step": "slices per step",
    "weights": "sha256 of the initial weights",
    "split": "content of the train and val volumes",
    "version": "version of the identity",
    "code": "digest of the code",
}


def content_here(
    experiment: Experiment, trained: Sequence[VolumeRecord], slices_per_step: int, *, strict_code: bool = False
) -> tuple[str, dict[str, Any]]:
    """(run_id, what it is the hash of) for the settings, the volumes (train and val) and the weights that are here.

    `strict_code`: and for the code that is here.
    """
    weights = initial_weights(experiment)
    if weights is None or not weights.is_file():
        raise DataError(f"module.sam2_checkpoint: {weights or 'missing'}; training starts from weights that are there")
    content = run_content(
        experiment,
        train_digests={str(record.key): record.digest for record in trained},
        split_digest=records_digest(trained),
        weights_sha256=sha256_file(weights),
        slices_per_step=slices_per_step,
    )
    content |= {"code": code_digest()} if strict_code else {}
    name = id_of(experiment, content)
    del content["volumes"]  # the record lists all volumes of the stores
    return name, content


def volumes_of(stores: Sequence[Store]) -> dict[str, dict[str, str]]:
    """str(VolumeKey) -> split and content digest, of every volume."""
    records = [record for store in stores for record in store.volumes]
    return {str(record.key): {"split": record.split, "digest": record.digest} for record in records}


def begin(layout: RunLayout, name: str, content: Content, stores: Sequence[Store], *, fresh: bool) -> str | None:
    """Write identity.json at a run's first attempt; at a later one, or when the name is another, refuse what changed.

    Returns in what a run that is new differs from the one that began before it, for whoever expected to continue that.
    Errors: DataError naming every key and volume that is not what it was, CheckpointError for a folder that holds the
    files of another run (which `fresh` replaces); nothing is written then.
    """
    now = {"run": name, "content": content, "volumes": volumes_of(stores)}
    then = None if fresh and name == layout.run_id else read_identity(layout)
    if then is not None and then["run"] == name == layout.run_id:
        return None
    if then is None and name == layout.run_id:
        news = None if fresh else another_run(layout, now)
        write_json(layout.identity, now)
        return news
    if then is None:
        raise DataError(
            f"{layout.folder}: its stores, weights or configuration{', or the code,' if 'code' in content else ''} "
            f"changed after it was planned (what is here now makes the run {name}); plan again with launch/sweep.py "
            "or launch/train.py"
        )
    lines = [*content_differences(then["content"], content), *volume_differences(then, now)]
    listed = f"; it differs in\n{_indented(lines)}\n" if lines else "; "
    if then["run"] != layout.run_id:
        raise CheckpointError(
            f"{layout.identity}: belongs to the run {then['run']}, not to {layout.run_id}{listed}{_ANEW}"
        )
    raise DataError(
        f"{layout.folder}: not what this run began with{listed}"
        f"put it back to go on, or start launch/sweep.py or launch/train.py again: what is here now is the run {name}"
    )


def refuse_changed_volumes(
    layout: RunLayout, experiment: Experiment, planned: str, records: Sequence[VolumeRecord], stores: Sequence[Store]
) -> None:
    """Errors: DataError when the volumes to be evaluated are not those that the eval_id `planned` was made from."""
    found = eval_id(experiment, records_digest(records), file_digests(experiment))
    if found == planned:
        return
    then = read_identity(layout)
    changed = volume_differences(then, {"volumes": volumes_of(stores)}) if then else []
    listed = _indented(changed) if changed else "  the evaluated split, a setting of eval:, or the file of boxes"
    raise DataError(
        f"{layout.evaluation(planned).folder}: not what this evaluation was planned for\n{listed}\n"
        f"put it back, or start launch/sweep.py again: what is here now is the evaluation {found}"
    )


def of_another_run(path: Path, snapshot: Mapping[str, Any], layout: RunLayout, content: Content) -> str:
    """Why a resume file that was written by another run cannot be continued here, key by key."""
    known = snapshot.get("content")
    lines = [] if known is None else content_differences(known, content, "in the checkpoint")
    differs = f"; it differs in\n{_indented(lines)}\n" if lines else "; "
    return f"{path}: belongs to the run {snapshot['run']}, not to {layout.run_id}{differs}{_ANEW}"


def another_run(layout: RunLayout, now: Mapping[str, Any]) -> str | None:
    """In what `now` differs from the newest other run of the experiment; None for the first run."""
    paths = [path for path in layout.folder.parent.glob("*/identity.json") if path != layout.identity]
    if not paths:
        return None
    before = RunLayout(max(paths, key=lambda path: path.stat().st_mtime_ns).parent)
    if (then := read_identity(before)) is None:
        return None
    lines = [*content_differences(then["content"], now["content"], "there"), *volume_differences(then, now)]
    return f"a new run: {before.run_id}, the last one here, differs in\n{_indented(lines)}" if lines else None


def read_identity(layout: RunLayout) -> dict[str, Any] | None:
    """The record of a run, or None for one that never began. Errors: DataError for a file that is not ours."""
    if not layout.identity.is_file():
        return None
    value = read_json(layout.identity)
    if not isinstance(value, dict) or not {"run", "content", "volumes"} <= value.keys():
        raise DataError(f"{layout.identity}: not the identity of a run")
    return value


def content_differences(then: Content, now: Content, there: str = "then") -> list[str]:
    """`key: value <there>, value now` for every setting or digest that differs, in order of keys.

    Differing digests of whole splits are left to `volume_differences` where the volumes are known.
    """
    before, after = dict(_leaves(then)), dict(_leaves(now))
    return [
        f"{key}: {_shown(before.get(key, _ABSENT))} {there}, {_shown(after.get(key, _ABSENT))} now"
        for key in sorted(before.keys() | after.keys())
        if canonical_json(before.get(key)) != canonical_json(after.get(key))
    ]


def volume_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for every volume that came, went, moved to another split or has another content."""
    before, after = then["volumes"], now["volumes"]
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None:
            lines.append(f"volume {key}: not there then, in split {new['split']} now")
        elif new is None:
            lines.append(f"volume {key}: in split {old['split']} then, not there now")
        elif old["digest"] != new["digest"]:
            lines.append(f"volume {key}: content {_shown(old['digest'])} then, {_shown(new['digest'])} now")
        elif old["split"] != new["split"]:
            lines.append(f"volume {key}: split {old['split']} then, {new['split']} now")
    return lines


def _leaves(content: Content) -> Iterator[tuple[str, Any]]:
    """(what a person calls it, value): settings by their dotted keys, the rest in words."""
    for name, value in content.items():
        if name == "settings":
            yield from _dotted(value, "")
        elif name != "version" or value != IDENTITY_VERSION:
            yield _NAMES.get(name, name), value


def _dotted(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _dotted(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry


def _shown(value: Any) -> str:
    if isinstance(value, str):
        is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
        return f"{value[:_DIGEST_CHARACTERS]}..." if is_digest else value
    return canonical_json(value)


def _indented(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join(f"  {line}" for line in [*lines[:_SHOWN], *more])

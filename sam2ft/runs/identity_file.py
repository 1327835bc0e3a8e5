"""Identity of a run (identity.json): the content that its run_id is the hash of, and how it differs now. No torch.

The run_id shows only that something changed; the file shows what. It also lists the content digest of every volume of
the run's stores, so a store that is prepared again while a run waits or trains is detected volume by volume.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sam2ft.config.identity import IDENTITY_VERSION, eval_id, id_of, run_content, training_identity
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.digests.verified_files import read_sealed_json, tell_damage, write_sealed_json
from sam2ft.core.errors import CheckpointError, DataError
from sam2ft.core.errors import listed as shown_few
from sam2ft.core.files import canonical_json, listed_names, sha256_file
from sam2ft.data.store.store import Store, VolumeRecord, records_digest
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.provenance import code_digest
from sam2ft.runs.stores import file_digests

Content = Mapping[str, Any]
"""A `run_content`, without the digests of single volumes."""

_ABSENT = "not set"
_ANEW = "remove it to continue without it, or start again with --fresh (launch/train.py) or --force (launch/sweep.py)"
_NAMED = "checked by the name of the run, which is the digest of the same content"
_SHOWN = 8
_DIGEST_CHARACTERS = 12
_NAMES = {
    "slices_per_step": "slices per step",
    "weights": "sha256 of the initial weights",
    "split": "content of the train and val volumes",
    "version": "version of the identity",
    "code": "digest of the code",
}


def current_identity(
    experiment: Experiment, trained: Sequence[VolumeRecord], slices_per_step: int, *, strict_code: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return the run_id and the content that it is the hash of, from the current settings, volumes and weights.

    Args:
        trained: volumes of the train and val splits.
        strict_code: include the digest of the current code.

    Raises:
        DataError: the file of initial weights does not exist.
    """
    weights = initial_weights(experiment)
    if weights is None or not weights.is_file():
        raise DataError(f"module.sam2_checkpoint: {weights or 'missing'}; training needs a file of initial weights")
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
    """Return str(VolumeKey) -> split and content digest, for every volume."""
    records = [record for store in stores for record in store.volumes]
    return {str(record.key): {"split": record.split, "digest": record.digest} for record in records}


def write_or_check_identity(
    layout: RunLayout,
    name: str,
    content: Content,
    stores: Sequence[Store],
    *,
    fresh: bool,
    began: Mapping[str, Any] | None = None,
) -> str | None:
    """Write identity.json at the first attempt of a run; at a later attempt compare it and refuse any change.

    Args:
        began: how the run computes where its name does not say it, which later attempts keep. It is written with the
            first attempt only.

    Returns:
        for a new run, how it differs from the newest other run of the experiment (for a user who expected to continue
        that run); else None.

    Raises:
        DataError: a setting or volume changed; the message names every one. Nothing is written.
        CheckpointError: the folder contains the files of another run (`fresh` replaces them). Nothing is written.
    """
    now = {"run": name, "content": content, "volumes": volumes_of(stores)}
    is_new = not fresh and not layout.identity.is_file()
    then = None if fresh and name == layout.run_id else _identity_if_readable(layout, _NAMED)
    if then is not None and then["run"] == name == layout.run_id:
        return None
    if then is None and name == layout.run_id:
        news = another_run(layout, now) if is_new else None
        kept = {"began": dict(began)} if began and (is_new or fresh) else {}
        write_sealed_json(layout.identity, now | kept)
        return news
    if then is None:
        raise DataError(
            f"{layout.folder}: its stores, weights or configuration{', or the code,' if 'code' in content else ''} "
            f"changed after it was planned (they now give the run {name}); plan again with launch/sweep.py "
            "or launch/train.py"
        )
    lines = [*content_differences(then["content"], content), *volume_differences(then, now)]
    listed = f"; it differs in\n{_indented(lines)}\n" if lines else "; "
    if then["run"] != layout.run_id:
        raise CheckpointError(
            f"{layout.identity}: belongs to the run {then['run']}, not to {layout.run_id}{listed}{_ANEW}"
        )
    raise DataError(
        f"{layout.folder}: not what this run started with{listed}"
        "restore it to continue, or start launch/sweep.py or launch/train.py again: the current state gives the "
        f"run {name}"
    )


def refuse_changed_volumes(
    layout: RunLayout, experiment: Experiment, planned: str, records: Sequence[VolumeRecord], stores: Sequence[Store]
) -> None:
    """Check that the volumes to be evaluated are those of the eval_id `planned`.

    Raises:
        DataError: volumes, settings or files changed; the message names the volumes.
    """
    found = eval_id(experiment, records_digest(records), file_digests(experiment))
    if found == planned:
        return
    then = _identity_if_readable(layout, _NAMED)
    changed = volume_differences(then, {"volumes": volumes_of(stores)}) if then else []
    listed = _indented(changed) if changed else "  the evaluated split, a setting of eval:, or the file of boxes"
    raise DataError(
        f"{layout.evaluation(planned).folder}: not what this evaluation was planned for\n{listed}\n"
        f"restore it, or keep it (the current state gives the evaluation {found}); then start launch/sweep.py again "
        "with --retry error"
    )


def of_another_run(path: Path, snapshot: Mapping[str, Any], layout: RunLayout, content: Content) -> str:
    """Return the message why a resume file of another run cannot be continued by this run, key by key."""
    known = snapshot.get("content")
    lines = [] if known is None else content_differences(known, content, "in the checkpoint")
    differs = f"; it differs in\n{_indented(lines)}\n" if lines else "; "
    return f"{path}: belongs to the run {snapshot['run']}, not to {layout.run_id}{differs}{_ANEW}"


def refuse_other_settings(layout: RunLayout, experiment: Experiment) -> None:
    """Refuse a config.yaml that is not that of its run: what it says about the model would be used without a word.

    Nothing is compared where no attempt has written identity.json.

    Raises:
        DataError: settings that affect training differ from those the run was trained with; the message names them.
    """
    then = _identity_if_readable(layout, "not compared with the configuration")
    if then is None or then["run"] != layout.run_id:
        return
    lines = content_differences(
        {"settings": then["content"]["settings"]}, {"settings": training_identity(experiment)}, "in the training"
    )
    if lines:
        raise DataError(
            f"{layout.config}: not the configuration of this run; it differs in\n{_indented(lines)}\n"
            "`python launch/train.py EXPERIMENT.yaml` (of a sweep with --point) writes the planned one again; other "
            "settings of an evaluation are given with --set"
        )


def refuse_trained_subjects(layout: RunLayout, records: Sequence[VolumeRecord]) -> None:
    """Refuse val or test subjects that the run was trained on, in another fold, store or state of the splits.

    A volume with the content of one that was trained on counts too, whatever the names of dataset and subject. Nothing
    is compared where no attempt has written identity.json.

    Raises:
        DataError: naming them.
    """
    then = _identity_if_readable(layout, "not compared with the subjects that are evaluated")
    if then is None or then["run"] != layout.run_id:
        return
    trained = {key: one["digest"] for key, one in then["volumes"].items() if one["split"] == "train"}
    subjects, digests = {tuple(key.split("/")[:2]) for key in trained}, set(trained.values())
    seen = [one for one in records if one.split != "train"
            and (tuple(str(one.key).split("/")[:2]) in subjects or one.digest in digests)]  # fmt: skip
    if seen:
        names = sorted({f"{one.key.dataset}/{one.key.subject}" for one in seen})
        raise DataError(
            f"{layout.best}: was trained on subjects that are {seen[0].split} in the given store "
            f"({shown_few(names, _SHOWN)}); allowed: subjects that it has not seen, such as those of its own store and "
            "its own splits"
        )


def another_run(layout: RunLayout, now: Mapping[str, Any]) -> str | None:
    """Return how `now` differs from the newest other run of the experiment; None for the first run."""
    times: dict[RunLayout, int] = {}
    for name in listed_names(layout.folder.parent):
        other = RunLayout(layout.folder.with_name(name))
        with suppress(FileNotFoundError, NotADirectoryError):  # not a run, or removed meanwhile
            times[other] = other.identity.stat().st_mtime_ns
    times.pop(layout, None)
    if not times:
        return None
    before = max(times, key=lambda other: times[other])
    if (then := _identity_if_readable(before, "not compared with this run")) is None:
        return None
    lines = [*content_differences(then["content"], now["content"], "in that run"), *volume_differences(then, now)]
    return f"a new run: {before.run_id}, the previous run, differs in\n{_indented(lines)}" if lines else None


def read_identity(layout: RunLayout) -> dict[str, Any] | None:
    """Return the content of identity.json; None for a run that never started.

    Raises:
        DataError: the file is damaged, or not the identity of a run.
    """
    if not layout.identity.is_file():
        return None
    remedy = "the next attempt of the run writes it again; for a report, move it away"
    try:
        value: dict[str, Any] = read_sealed_json(layout.identity)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from None
    if not isinstance(value, dict) or not {"run", "content", "volumes"} <= value.keys():
        raise DataError(f"{layout.identity}: not the identity of a run; {remedy}")
    return value


def own_identity(layout: RunLayout) -> dict[str, Any] | None:
    """As `read_identity`, for callers that take values from it.

    Raises:
        DataError: as `read_identity`; it is the file of another run.
    """
    identity = read_identity(layout)
    if identity is not None and identity["run"] != layout.run_id:
        raise DataError(f"{layout.identity}: belongs to the run {identity['run']}, not to {layout.run_id}; {_ANEW}")
    return identity


def _identity_if_readable(layout: RunLayout, instead: str) -> dict[str, Any] | None:
    """`read_identity`, and None with a note, which says what is done `instead`, for a damaged file."""
    try:
        return read_identity(layout)
    except DataError as error:
        tell_damage(f"{error}; {instead}")
        return None


def content_differences(then: Content, now: Content, there: str = "then") -> list[str]:
    """Return `key: value <there>, value now` for every setting or digest that differs, sorted by key.

    Where the volumes are known, `volume_differences` explains differing digests of whole splits.
    """
    before, after = dict(_leaves(then)), dict(_leaves(now))
    return [
        f"{key}: {_shown(before.get(key, _ABSENT))} {there}, {_shown(after.get(key, _ABSENT))} now"
        for key in sorted(before.keys() | after.keys())
        if canonical_json(before.get(key)) != canonical_json(after.get(key))
    ]


def volume_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for every volume that was added, removed, moved to another split or changed in content."""
    before, after = then["volumes"], now["volumes"]
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None:
            lines.append(f"volume {key}: absent then, in split {new['split']} now")
        elif new is None:
            lines.append(f"volume {key}: in split {old['split']} then, absent now")
        elif old["digest"] != new["digest"]:
            lines.append(f"volume {key}: content {_shown(old['digest'])} then, {_shown(new['digest'])} now")
        elif old["split"] != new["split"]:
            lines.append(f"volume {key}: split {old['split']} then, {new['split']} now")
    return lines


def _leaves(content: Content) -> Iterator[tuple[str, Any]]:
    """(readable name, value): settings by their dotted keys, everything else by `_NAMES`."""
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

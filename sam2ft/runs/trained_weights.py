"""Whether best.pt of a trained run is the file that its training recorded in status.json. No torch."""

from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import sha256_file
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.layout import RunLayout


def other_weights(layout: RunLayout) -> str | None:
    """How best.pt differs from what the end of the training recorded, as text.

    None: it does not, or the training has not ended (then best.pt can be newer than status.json). Both files are read
    again before they are called different, because another node may see a new file before the other one.
    """
    found = recorded = ""
    for _ in range(2):
        status = read_status(layout)
        if status is None or not status.trained or status.best_sha256 is None:
            return None
        recorded = status.best_sha256
        found = sha256_file(layout.best) if layout.best.is_file() else ""
        if found == recorded:
            return None
    what = f"found sha256 {found[:12]}..." if found else "no such file"
    return f"{layout.best}: {what}, but {layout.status.name} recorded sha256 {recorded[:12]}..."


def refuse_other_weights(layout: RunLayout) -> None:
    """Refuse a best.pt that is not what the training of its run wrote.

    Raises:
        CheckpointError: with both digests.
    """
    if problem := other_weights(layout):
        raise CheckpointError(f"{problem} when its training ended; {how_to_heal(layout)}")


def how_to_heal(layout: RunLayout) -> str:
    """What makes best.pt again, for a message."""
    return (
        f"`python launch/train.py {layout.config}` makes it again from the resume file of its epoch, where that is "
        "still there; with --fresh it trains again from the start"
    )

"""Memory of the trainings of a plan against that of the GPUs, as far as it is known: a line, warnings, refusals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import UserError
from sam2ft.model.memory_needs import cannot_fit, memory_text, memory_warning, needed

_NAMES = 4


@dataclass(frozen=True)
class MemoryCheck:
    """What a plan says about memory; empty for models that were not measured and for trainings without a GPU."""

    line: str = ""
    warnings: tuple[str, ...] = ()
    """Trainings that may not fit, with the changes that make them fit."""
    refusals: tuple[str, ...] = ()
    """Trainings that cannot fit, whatever the batch."""

    def refuse(self) -> None:
        """Refuse a plan with trainings that cannot fit.

        Raises:
            UserError: names them, with both numbers.
        """
        if self.refusals:
            raise UserError("\n".join(f"{text}; nothing was started" for text in self.refusals))


def check_memory(trainings: Mapping[str, Experiment], gpu_bytes: int | None) -> MemoryCheck:
    """Compare the trainings with the memory of a GPU.

    Args:
        trainings: name of a point -> its experiment, of those that are to be trained on a GPU.
        gpu_bytes: memory of the smallest GPU that a training may get; None where it is not known.
    """
    needs = [need for experiment in trainings.values() if (need := needed(experiment)) is not None]
    if not needs:
        return MemoryCheck()
    line = memory_text(needs, gpu_bytes)
    if gpu_bytes is None:
        return MemoryCheck(line)
    possible = {name: entry for name, entry in trainings.items() if cannot_fit(entry, gpu_bytes) is None}
    warnings, refusals = _texts(possible, memory_warning, gpu_bytes), _texts(trainings, cannot_fit, gpu_bytes)
    return MemoryCheck(line, warnings, refusals)


def _texts(
    trainings: Mapping[str, Experiment], text_of: Callable[[Experiment, int], str | None], gpu_bytes: int
) -> tuple[str, ...]:
    """One text for all points with the same one."""
    names: dict[str, list[str]] = {}
    for name, experiment in trainings.items():
        if text := text_of(experiment, gpu_bytes):
            names.setdefault(text, []).append(name)
    return tuple(f"{_listed(points)}: {text}" for text, points in names.items())


def _listed(points: Sequence[str]) -> str:
    more = len(points) - _NAMES
    return ", ".join(points[:_NAMES]) + (f" and {more} more points" if more > 0 else "")

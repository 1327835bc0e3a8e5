"""Progress display and experiment trackers of a training: console, TensorBoard, Weights & Biases."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.events import Observer, SlicePrediction
from sam2ft.data.store.store import Store
from sam2ft.runs.attempt.log import Tee
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.trackers import trackers_of
from sam2ft.tracking.base import Draw
from sam2ft.tracking.console import ConsoleProgress
from sam2ft.training.state import TrainState
from sam2ft.training.watching.observers import picture_of


@contextmanager
def progress_observers(
    experiment: Experiment, layout: RunLayout, stores: Mapping[str, Store], state: TrainState | None
) -> Iterator[tuple[Observer, ...]]:
    """Context with the console and tracker observers of a training that starts or resumes at `state`; closes them."""
    consoles = [ConsoleProgress(experiment.module.num_epochs, stream=stream) for stream in _streams()]
    trackers = trackers_of(experiment, layout, _drawing(stores), state.step if state else 0)
    try:
        with _progress_line_cleared(consoles[0]):
            yield (*consoles, *trackers)
    finally:
        for console in consoles:
            console.close()
        for tracker in trackers:
            tracker.close()


def _drawing(stores: Mapping[str, Store]) -> Draw:
    def draw(sample: SlicePrediction) -> npt.NDArray[np.uint8]:
        from sam2ft.pictures.figures import figure_rgb

        figure = picture_of(sample, stores)
        pixels = figure_rgb(figure)
        figure.clear()
        return pixels

    return draw


@contextmanager
def _progress_line_cleared(console: ConsoleProgress) -> Iterator[None]:
    """Clear the progress line before other output (such as a warning) is printed on the terminal."""
    outputs = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Tee)]
    for output in outputs:
        output.before_terminal = console.clear
    try:
        yield
    finally:
        for output in outputs:
            output.before_terminal = None


def _streams() -> tuple[TextIO, ...]:
    """Streams for progress: terminal and log separately, so that the log has no control sequences of a progress bar."""
    if isinstance(sys.stderr, Tee) and sys.stderr.isatty():
        return (sys.stderr.terminal, sys.stderr.log)
    return (sys.stderr,)

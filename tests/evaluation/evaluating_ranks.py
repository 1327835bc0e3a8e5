"""One evaluation by one or several ranks; run by test_ranks_evaluate.py.

python evaluating_ranks.py RUN_FOLDER EVAL_ID STOPPED_RANK OUT: rank STOPPED_RANK (-1: none) is told to stop at once;
how it ended goes to OUT/<rank>.
"""

import os
import sys
from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import StopRequestedError
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.run import evaluate
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.layout import RunLayout


class Stop:
    """Asked for from the start, of one rank alone."""

    requested = int(os.environ.get("RANK", "0")) == int(sys.argv[3])


def main() -> None:
    layout, eval_id = RunLayout(Path(sys.argv[1])), sys.argv[2]
    own = layout.evaluation(eval_id).config
    experiment = load_experiment(own if own.is_file() else layout.config).points[0].experiment
    attempt, rank = Attempt.current(), os.environ.get("RANK", "0")
    if rank == "0":
        layout.claim.unlink(missing_ok=True)  # of the tests' own process, which lives on
        claim(layout, attempt)
    seen: list[str] = []
    original = Tester._volume
    Tester._volume = lambda self, volume: (seen.append(volume.key.subject), original(self, volume))[1]  # type: ignore[method-assign,func-returns-value]  # counts
    try:
        evaluate(experiment, layout, attempt, checkpoint=layout.best, eval_id=eval_id, stop=Stop())
        ended = "done"
    except StopRequestedError as error:
        ended = str(error)
    Path(sys.argv[4], rank).write_text(f"{ended}|{','.join(seen)}")


main()

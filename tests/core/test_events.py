from sam2ft.core.events import EpochDone, Observers, StepDone


class Recorder:
    def __init__(self, name: str, calls: list) -> None:
        self.name, self.calls = name, calls

    def on_step(self, event, state) -> None:
        self.calls.append((self.name, "step", event.step))

    def on_epoch(self, event, state) -> None:
        self.calls.append((self.name, "epoch", event.epoch))

    def on_samples(self, epoch, samples) -> None:
        self.calls.append((self.name, "samples", len(samples)))


def test_several_observers_hear_everything_in_order():
    calls: list = []
    observers = Observers([Recorder("a", calls), Recorder("b", calls)])
    step = StepDone(0, 7, 10, {"loss": 1.0}, [1e-4], 4, 0.5, 0.1)
    observers.on_step(step, None)
    observers.on_epoch(EpochDone(2, 30, {"val_loss": 0.5}, improved=True, seconds=3.0), None)
    observers.on_samples(2, [])
    heard = [("step", 7), ("epoch", 2), ("samples", 0)]
    assert calls == [(name, *what) for what in heard for name in ("a", "b")]

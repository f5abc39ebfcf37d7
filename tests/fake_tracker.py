"""A tracker in memory, which can fail at any call."""

from __future__ import annotations


class Down(RuntimeError):
    """No answer."""


class FakeServer:
    """Keeps what it is told as MLflow does: equal metrics once, parameters that do not change, files by name.

    Args:
        fails_at: the call that fails; every later one works.
        accepted: whether the failing call was carried out, and only its answer was lost.
    """

    def __init__(self, fails_at: int = -1, accepted: bool = False) -> None:
        self.fails_at, self.accepted, self.calls = fails_at, accepted, 0
        self.runs: dict[str, dict] = {}

    def _answer(self, act):
        self.calls += 1
        failing = self.calls - 1 == self.fails_at
        result = act() if not failing or self.accepted else None
        if failing:
            raise Down
        return result

    def find_run(self, experiment, key):
        found = [run for run, content in self.runs.items() if content["key"] == (experiment, key)]
        return self._answer(lambda: found[0] if found else None)

    def create_run(self, experiment, name, key, time):
        run_id = f"run{len(self.runs)}"
        empty = {"key": (experiment, key), "name": name, "params": {}, "metrics": [], "files": [], "status": "RUNNING"}
        return self._answer(lambda: (self.runs.update({run_id: empty}), run_id)[1])

    def log_params(self, run_id, params):
        assert 0 < len(params) <= 100
        self._answer(lambda: self.runs[run_id]["params"].update(params))

    def log_metrics(self, run_id, metrics):
        assert 0 < len(metrics) <= 1000
        kept = self.runs[run_id]["metrics"]
        self._answer(lambda: kept.extend(metric for metric in metrics if metric not in kept))

    def log_file(self, run_id, path, folder):
        files = self.runs[run_id]["files"]
        self._answer(lambda: files.append((path.name, folder)) if (path.name, folder) not in files else None)

    def set_status(self, run_id, status, time):
        self._answer(lambda: self.runs[run_id].update(status=status))

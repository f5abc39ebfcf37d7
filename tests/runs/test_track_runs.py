"""What MLflow is told of a volume run is what its results say, once."""

from __future__ import annotations

import numpy as np
import pytest
from fake_tracker import FakeServer
from helpers import edit_config

from minima_volume.analysis.results import Results
from minima_volume.files.atomic import read_npz
from minima_volume.runs.track import runs_below, tell_run
from minima_volume.stages.results.older_formats import load_results
from minima_volume.tracking.send import send

URI = "https://mlflow.example.com"


def test_a_run_is_told_once(copied):
    """Every estimate and test accuracy by name and minimum; the second time nothing; a new number in a run that goes on."""
    assert runs_below(copied.folder.parent) == [copied.folder] and tell_run(copied.folder) is None
    run, server = edit_config(copied.folder, {"mlflow.tracking_uri": URI, "mlflow.experiment_name": "e"}), FakeServer()
    journal = tell_run(run.folder)
    assert send(journal, server) == []
    [told] = server.runs.values()
    known = {(metric.name, metric.step): metric.value for metric in told["metrics"]}
    assert told["status"] == "FINISHED" and told["params"]["data.base_size"] == run.config.data.base_size
    results = Results.of(load_results(run.results_file(0, 0.5)))
    for minimum, star in zip(results.minima, results.stars(), strict=True):
        assert known.get(("data_0/loss_0.5/log_volume", minimum)) == (star.log_volume if star.is_estimate else None)
    accuracies = read_npz(run.accuracies_file)
    assert [known["test_accuracy", minimum] for minimum in (0, 20, 40)] == list(accuracies["test_accs"])
    calls = server.calls
    assert tell_run(run.folder).told().pending == [] and send(journal, server) == [] and server.calls == calls
    np.savez(run.accuracies_file, **(accuracies | {"test_loss": accuracies["test_loss"] + 1}))
    send(tell_run(run.folder), server)
    new = [
        metric
        for metric in told["metrics"]
        if (metric.name, metric.step, metric.value) not in {(*key, value) for key, value in known.items()}
    ]
    assert {metric.name for metric in new} == {"test_loss"} and len(new) == 3 and len(server.runs) == 1
    assert told["status"] == "FINISHED"


@pytest.mark.parametrize("command", [["track", "sync", "{}"], ["run", "{}", "--stage", "accuracy", "--quiet"]])
def test_a_server_that_is_down_costs_nothing_but_a_line(copied, cli, command):
    """The command says so; what was to be told is in the journal."""
    run = edit_config(copied.folder, {"mlflow.tracking_uri": "http://127.0.0.1:1"})
    code, out, text = cli(*(word.format(run.folder) for word in command))
    assert code == (1 if command[0] == "track" else 0)
    assert "MLflow at http://127.0.0.1:1" in out + text or "not installed" in out + text
    assert tell_run(run.folder).told().sent == 0

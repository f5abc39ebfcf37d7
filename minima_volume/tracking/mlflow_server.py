"""MLflow as a tracker. Only this file imports it, and only when something is sent: that takes seconds."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from minima_volume.config.tracking import absolute
from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.tracking.send import Metric

KEY_TAG = "minima_volume.key"
MAX_VALUE = 500  # characters of a parameter, which every version of MLflow takes
CONNECT_SECONDS = 3.0


class TrackingError(MinimaVolumeError):
    """The tracker cannot be reached, or refuses what it is sent."""


def require_mlflow() -> None:
    """Raise ConfigError if the extra is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "mlflow: the package mlflow is not installed; install it (pip install 'minima_volume[mlflow]'), or leave the section mlflow out"
        )


def hold_back(seconds: int, retries: int) -> None:
    """Bound what one request of this process to a server that is down may cost, and send no usage statistics."""
    os.environ.update(
        {
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        }
    )


class MLflowServer:
    """One tracking server or database.

    Args:
        uri: its address.

    Raises:
        ConfigError: MLflow is not installed.
        TrackingError: nothing answers there.
    """

    def __init__(self, uri: str) -> None:
        require_mlflow()
        _knock(uri)
        from mlflow.tracking import MlflowClient

        self.uri, self._client = (
            uri,
            MlflowClient(tracking_uri=absolute(uri)),
        )  # MLflow keeps a database open by its name

    def find_run(self, experiment: str, key: str) -> str | None:
        """The run that has a key, or None."""
        found = self._client.search_runs([self._experiment(experiment)], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return found[0].info.run_id if found else None

    def create_run(self, experiment: str, name: str, key: str, time: int) -> str:
        """A new run; its id."""
        made = self._client.create_run(
            self._experiment(experiment), start_time=time, tags={KEY_TAG: key}, run_name=name
        )
        return made.info.run_id

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Settings; a long value is cut."""
        from mlflow.entities import Param

        self._client.log_batch(run_id, params=[Param(key, str(value)[:MAX_VALUE]) for key, value in params.items()])

    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Numbers with their steps and times; MLflow keeps equal ones once."""
        from mlflow.entities import Metric as Entity

        self._client.log_batch(run_id, metrics=[Entity(m.name, m.value, m.time, m.step) for m in metrics])

    def log_file(self, run_id: str, path: Path, folder: str) -> None:
        """A file, into a folder of the run's artifacts."""
        self._client.log_artifact(run_id, str(path), None if folder == "." else folder)

    def set_status(self, run_id: str, status: str, time: int) -> None:
        """RUNNING, or how the run ended."""
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status, time)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name, _artifacts(self.uri))
        except Exception:
            found = self._client.get_experiment_by_name(name)  # another process was quicker
            if found is None:
                raise
            return found.experiment_id


def said(error: Exception, uri: str) -> str:
    """One line about what went wrong, without a password that the environment's address may hold."""
    text = " ".join(str(error).split()) or type(error).__name__
    return without_password(f"MLflow at {uri}: {text[:300]}")


def without_password(text: str) -> str:
    """A text with addresses, without user and password in them.

    >>> without_password("https://me:secret@mlflow.example.com/")
    'https://mlflow.example.com/'
    """
    return re.sub(r"//[^/@\s]+@", "//", text)


def _artifacts(uri: str) -> str | None:
    """Beside a database of this machine; a server knows its own place."""
    before, slashes, path = uri.partition("sqlite:///")
    return (Path(path).absolute().parent / "mlartifacts").as_uri() if slashes and not before else None


def _knock(uri: str) -> None:
    """Find a server that is down in a moment, before anything large is imported."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise TrackingError(f"cannot be reached ({error.strerror or error})") from error

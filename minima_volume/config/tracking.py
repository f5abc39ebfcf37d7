"""The `mlflow` section of a config: where metrics are sent. It never holds credentials, because it is copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator

from minima_volume.config.sections import Section
from minima_volume.errors import ConfigError

URI_VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULT_URI = "sqlite:///mlflow.db"
SECRET = ("pass", "token", "secret", "key")


class MLflow(Section):
    """Tracking with MLflow (the extra `mlflow`); user, password or token come from MLflow's own environment variables."""

    tracking_uri: str | None = None  # None: MLFLOW_TRACKING_URI of the environment, else sqlite:///mlflow.db
    experiment_name: str = Field(default="minima_volume", min_length=1)

    @field_validator("tracking_uri")
    @classmethod
    def _uri(cls, value: str | None) -> str | None:
        if value is not None:
            refuse_file_store(value)
            parts = urlsplit(value)
            named = [name for name, _ in parse_qsl(parts.query) if any(word in name.lower() for word in SECRET)]
            if parts.username or parts.password or named:
                raise ValueError(
                    "an address without credentials, because the config is copied; set MLFLOW_TRACKING_USERNAME and "
                    "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or the whole address as MLFLOW_TRACKING_URI and leave the key out"
                )
        return value


def refuse_file_store(uri: str) -> None:
    """Raise ValueError for a folder of files, which MLflow 3 no longer writes."""
    if urlsplit(uri).scheme in ("", "file") and uri != "databricks":
        raise ValueError(
            "sqlite:///mlflow.db, or the address of a server: MLflow no longer writes folders of files such as mlruns/ (`mlflow "
            "migrate-filestore --source mlruns --target sqlite:///mlflow.db` takes an old one over)"
        )


def tracking_uri(uri: str | None, environment: Mapping[str, str]) -> str:
    """Where a run goes: the address of its config, else of the environment, else a database in the working directory.

    Raises:
        ConfigError: the environment names a folder of files.
    """
    found = uri or environment.get(URI_VARIABLE) or DEFAULT_URI
    try:
        refuse_file_store(found)
    except ValueError as error:
        raise ConfigError(f"{URI_VARIABLE} is {found!r}; allowed: {error}") from error
    return found


def lasting_uri(uri: str | None, environment: Mapping[str, str]) -> str | None:
    """An address to keep: that of a database with its whole path, so that it means the same from another working directory.

    Args:
        uri: of the config.
        environment: variables.

    Returns:
        None if the environment's holds a user or password, which is kept nowhere: it is asked again.

    >>> lasting_uri("https://mlflow.example.com", {})
    'https://mlflow.example.com'
    >>> lasting_uri(None, {"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example.com"})
    """
    found = tracking_uri(uri, environment)
    return None if urlsplit(found).username or urlsplit(found).password else absolute(found)


def absolute(uri: str) -> str:
    """The address of a database on this machine with its whole path; any other as it is."""
    before, slashes, path = uri.partition("sqlite:///")
    return f"sqlite:///{Path(path).absolute()}" if slashes and not before else uri

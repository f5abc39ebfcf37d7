"""What was measured, in a title: the data set and the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOURCES = {
    "swiss_roll": "swiss roll",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR10",
    "svhn": "SVHN",
    "modulo_arithmetic": "modulo arithmetic",
}


def subject(settings: Mapping[str, Any]) -> str:
    """Data set and model of a run.

    Args:
        settings: a config as plain data, as results.json keeps it; empty if it is not known.

    >>> subject({"data": {"source": "swiss_roll"}, "model": {"name": "mlp", "options": {"hidden": [32, 32, 32]}}})
    'swiss roll, MLP [32] x 3'
    """
    if not {"data", "model"} <= set(settings):
        return ""
    source = str(settings["data"]["source"])
    model = settings["model"]
    return f"{SOURCES.get(source, source)}, {model_text(model['name'], model['options'])}"


def model_text(name: str, options: Mapping[str, Any]) -> str:
    """Name and layers of a model.

    >>> model_text("cnn", {"channels": [16, 32], "fc": [64]}), model_text("my_model:Net", {})
    ('CNN [16, 32], fc [64]', 'my_model:Net')
    """
    if name == "mlp" and "hidden" in options:
        widths = options["hidden"]
        same = len(widths) > 2 and len(set(widths)) == 1
        return "MLP " + (f"[{widths[0]}] x {len(widths)}" if same else f"[{', '.join(map(str, widths))}]")
    if name == "cnn" and {"channels", "fc"} <= set(options):
        return f"CNN [{', '.join(map(str, options['channels']))}], fc [{', '.join(map(str, options['fc']))}]"
    if {"num_layers", "width"} <= set(options):
        return f"{name}, {options['num_layers']} layers, width {options['width']}"
    return {"mlp": "MLP", "cnn": "CNN"}.get(name, name)

"""Architectures: their shapes and sizes, and that the loss engine runs them as the plain loop does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import make_run, tiny
from small_models import SMALL
from torch import nn

import minima_volume as mv
from minima_volume.config.run import parse_config
from minima_volume.errors import ConfigError
from minima_volume.models import build_model
from minima_volume.perturbation.engine import LossEngine
from minima_volume.runs.states import run_stage


def build(name, shape, outputs, seed=0, **options):
    overrides = {"model.name": name, "model.options": options, "seeds.model": seed, "seeds.data": 10}
    return build_model(parse_config(tiny(overrides)), shape, outputs)


def batch(shape, outputs, count=14):
    random = torch.Generator().manual_seed(5)
    if len(shape) == 1:
        tokens = torch.randint(0, outputs, (count, shape[0] + 1), generator=random)
        return tokens[:, :-1], tokens[:, 1:]
    return torch.randn(count, *shape, generator=random), torch.randint(0, outputs, (count,), generator=random)


def trained_a_little(model, x, y):
    """Some steps, so that batch statistics, zero heads and class tokens have left their initial values."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x).flatten(0, -2), y.flatten()).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
def test_the_engine_agrees_with_the_plain_loop(name):
    """Cross-entropy by torch at theta* + c d, written into a copy by hand; the model and its buffers stay as they were."""
    options, shape, outputs = SMALL[name]
    x, y = batch(shape, outputs)
    model = trained_a_little(build(name, shape, outputs, **options), x, y)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    engine = LossEngine(model, x, y, "cross_entropy", [6, 14])
    seeds, coefficients = [3, 8], [0.0, 0.2]
    copy = build(name, shape, outputs, seed=1, **options).eval()
    found = [engine.rays([seed]).evaluate([0] * 2, torch.tensor(coefficients).double().numpy()) for seed in seeds]
    for seed, values in zip(seeds, found, strict=True):
        direction, _ = engine.directions.draw(seed)
        for b, c in enumerate(coefficients):
            copy.load_state_dict(before)
            moved = dict(copy.named_parameters())
            with torch.no_grad():
                for parameter, step in zip(engine.directions.names, direction, strict=True):
                    moved[parameter] += c * step
                for k, size in enumerate((6, 14)):
                    logits, targets = copy(x[:size]), y[:size]
                    loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten()).item()
                    right = (logits.argmax(-1) == targets).double().mean().item()
                    assert values.loss[k, b] == pytest.approx(loss, rel=2e-4), (seed, c)
                    assert values.accuracy[k, b] == pytest.approx(right)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_resnet18_is_torchvisions_but_for_the_stem():
    """11.2 million parameters; the first feature map has the size of the image; one channel or three."""
    model = build("resnet18", (3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert model.maxpool(model.conv1(torch.zeros(1, 3, 32, 32))).shape == (1, 64, 32, 32)
    assert build("resnet18", (1, 28, 28), 7).eval()(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


def test_what_directions_leave_out_is_reported():
    """A vision transformer's class token and position embeddings; nothing of the others."""
    left_out = {}
    for name, (options, shape, outputs) in SMALL.items():
        model = build(name, shape, outputs, **options)
        left_out[name] = LossEngine(model, *batch(shape, outputs), "cross_entropy").directions.left_out
    assert left_out == {"resnet18": (), "vit": ("class_token", "encoder.pos_embedding"), "transformer": ()}


def test_the_published_transformer():
    """About 10 million parameters with 65 characters, embeddings counted once, no biases; logits near uniform at first."""
    model = build("transformer", (256,), 65)
    names = [name for name, _ in model.named_parameters()]
    width = 384
    count = 6 * (12 * width**2 + 2 * width) + width + (65 + 256) * width
    assert sum(p.numel() for p in model.parameters()) == count and 10.6e6 < count < 10.8e6
    assert not [name for name in names if "bias" in name]
    x, y = batch((256,), 65, count=2)
    with torch.no_grad():
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
    assert loss == pytest.approx(torch.tensor(65.0).log().item(), abs=0.15)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_transformer_is_causal_and_its_embedding_is_tied(mode):
    """A later token changes no earlier answer; the gradient of the embedding has a row for every token."""
    options, shape, outputs = SMALL["transformer"]
    model = getattr(build("transformer", shape, outputs, bias=True, **options), mode)()
    x, _ = batch(shape, outputs)
    changed = x.clone()
    changed[:, 7] = (changed[:, 7] + 1) % outputs
    with torch.no_grad():
        first, second = model(x), model(changed)
    assert torch.allclose(first[:, :7], second[:, :7], atol=1e-6)
    assert (first[:, 7:] - second[:, 7:]).abs().amax(-1).min() > 1e-5
    model(torch.zeros_like(x)).logsumexp(-1).sum().backward()
    assert bool((model.token_embedding.weight.grad.abs().sum(1) > 0).all())


def test_the_transformer_takes_shorter_sequences():
    """As text generation would."""
    options, shape, outputs = SMALL["transformer"]
    model = build("transformer", shape, outputs, **options).eval()
    x, _ = batch(shape, outputs)
    with torch.no_grad():
        assert torch.allclose(model(x[:, :5]), model(x)[:, :5], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "shape", "words"),
    [
        ("resnet18", {}, (5,), "model resnet18 needs samples of shape"),
        ("vit", {"patch_size": 3}, (1, 8, 8), "patch_size 3 divides"),
        ("vit", {"num_heads": 3}, (1, 8, 8), "hidden_dim 128 must be a multiple of num_heads 3"),
        ("vit", {}, (1, 8, 4), "needs square samples"),
        ("transformer", {}, (1, 8, 8), "model transformer needs samples of shape"),
        ("transformer", {"num_heads": 5}, (8,), "width 384 must be a multiple of num_heads 5"),
        ("transformer", {"layers": 3}, (8,), "do not fit model 'transformer'"),
    ],
)
def test_options_that_do_not_fit(name, options, shape, words):
    """Errors name the model, the option and the shape."""
    with pytest.raises(ConfigError, match=words):
        build(name, shape, 10, **options)


def test_initial_weights_come_from_the_model_seed_alone():
    """Layers that are put in after torchvision built the model, too."""
    for name, (options, shape, outputs) in SMALL.items():
        first, same, other = (build(name, shape, outputs, seed, **options) for seed in (0, 0, 1))
        weights = [dict(model.named_parameters()) for model in (first, same, other)]
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
        key = {"resnet18": "conv1.weight", "vit": "conv_proj.weight", "transformer": "token_embedding.weight"}[name]
        assert not torch.equal(weights[0][key], weights[2][key])


def test_a_transformer_run_through_all_stages(tmp_path):
    """Text windows: a loss and an accuracy by character, from training to volumes."""
    options = {"num_layers": 1, "num_heads": 2, "width": 16}
    overrides = {
        "data.source": "text",
        "data.options": {"path": "a.txt", "block_size": 10},
        "data.base_size": 8,
        "data.levels": [0, 8],
        "model.name": "transformer",
        "model.options": options,
        "perturbation.num_directions": 3,
        "volume.loss_thresholds": [2.5],
        "volume.accuracy_thresholds": None,
    }
    run = make_run(tmp_path / "model_0_data_10", overrides)
    (run.folder / "a.txt").write_text("the cat sat on the mat and the dog ate the hat. " * 12, encoding="utf-8")
    for stage in ("train", "perturb", "volume", "cutoff", "accuracy"):
        run_stage(run, stage, progress=False)
    trained = mv.load_models_and_data(run)
    data, model = trained.dataset, trained.models[8]
    with torch.no_grad():
        logits = model(data.x_train)
    results = mv.load_results(run.results_file(8, 2.5))
    assert results["start_loss_values"][0] == pytest.approx(
        nn.functional.cross_entropy(logits.flatten(0, 1), data.y_train.flatten()).item(), rel=1e-4
    )
    assert results["log_volume_values"][0] is not None
    assert trained.records[8]["train_accs"][-1] == pytest.approx(
        (logits.argmax(-1) == data.y_train).double().mean().item()
    )

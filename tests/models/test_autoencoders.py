"""Shapes, modes and invariances of the autoencoders; a planted dictionary is found."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from minima_volume.losses.generative import Bernoulli, Gaussian, SAELoss
from minima_volume.models.sae import SAE
from minima_volume.models.vae import VAE
from minima_volume.training.loop import Parts, train


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 28, 28)])
@pytest.mark.parametrize("channels", [None, [4], [4, 6, 5]])
def test_reconstructions_have_the_shape_of_the_samples(shape, channels):
    """Also where height and width are odd."""
    model = VAE(Bernoulli(shape), 3, [10], channels, shape)
    x = torch.rand(2, *shape)
    outputs = model(x)
    assert outputs["parameters"].shape == (2, x[0].numel()) and outputs["mean"].shape == (2, 3)
    assert model.predict(x).shape == x.shape and model.embed(x).shape == (2, 3)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in model.modules()) == len(channels or [])


def test_noise_is_drawn_in_training_and_given_in_evaluation():
    """A given draw decides everything; in evaluation mode nothing is random."""
    model, x = VAE(Gaussian((4,)), 2, [5]), torch.ones(3, 4)
    assert not torch.equal(model(x)["parameters"], model(x)["parameters"])
    model.eval()
    assert torch.equal(model(x)["parameters"], model(x, torch.zeros(3, 2))["parameters"])
    assert not torch.equal(model(x)["parameters"], model(x, torch.ones(3, 2))["parameters"])


@pytest.mark.parametrize("activation", ["topk", "batch_topk"])
def test_codes_have_k_active_atoms(activation):
    """Per sample, or on average over a batch; the scale of the decoder's weight makes no difference."""
    torch.manual_seed(0)
    model = SAE(6, 20, activation, 4)
    x = torch.randn(50, 6)
    active = (model(x)["code"] > 0).sum(-1)
    assert int(active.sum()) == 200
    assert (len(active.unique()) == 1) == (activation == "topk")
    torch.testing.assert_close(model.atoms.norm(dim=1), torch.ones(20))
    model.eval()
    alone = torch.cat([model(row[None])["code"] for row in x])
    torch.testing.assert_close(alone, model(x)["code"])
    before = model.predict(x)
    with torch.no_grad():
        model.decoder.weight.mul_(3.0)
    torch.testing.assert_close(model.predict(x), before)


def test_a_planted_dictionary_of_64_atoms_is_found():
    """Sums of 3 of 64 random atoms in 32 dimensions: TopK has an atom with cosine above 0.95 for them, on average."""
    random = torch.Generator().manual_seed(0)
    atoms = F.normalize(torch.randn(64, 32, generator=random), dim=1)
    which = torch.rand(8000, 64, generator=random).topk(3).indices
    codes = torch.zeros(8000, 64).scatter(1, which, 0.5 + torch.rand(8000, 3, generator=random))
    x = codes @ atoms
    torch.manual_seed(0)
    model, loss = SAE(32, 96, "topk", 3), SAELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def batches():
        return x[torch.randperm(len(x), generator=random)].split(200)

    train(Parts(model, optimizer, lambda model, batch: loss(model(batch), batch), batches), 60)
    best = (atoms @ model.atoms.detach().T).amax(1)
    assert float(best.mean()) > 0.95

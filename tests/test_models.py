"""Networks have the published sizes, work at any image size and are drawn from their seed alone."""

import pytest
import torch

from kdlib import models
from kdlib.catalogue import MODELS
from kdlib.errors import InvalidInput

BUILT = [name for name, model in MODELS.items() if model.builder.startswith("models:")]  # written by hand


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("resnet56", 853_018), ("lenet5", 62_006)])
def test_parameter_counts(name, parameters):
    """0.27 M and 0.85 M are He et al.'s; LeNet-5's by hand: 456 + 2416 + 48120 + 10164 + 850."""
    assert models.count_parameters(models.build(name, classes=10)) == parameters
    if MODELS[name].parameters:
        assert round(parameters / 1e6, 2) == MODELS[name].parameters


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
def test_any_image_size_gives_logits_for_every_class(name, size):
    model = models.build(name, classes=7, image_size=size)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_lenet_follows_the_image_size():
    assert models.build("lenet5", classes=10, image_size=224).fc1.in_features == 53 * 53 * 16


@pytest.mark.parametrize("name", BUILT)
def test_every_parameter_learns(name):
    model = models.build(name, classes=4)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_weights_depend_on_the_seed_alone_and_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, again, other = (models.seeded(lambda: models.build("lenet5", classes=10), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.fc1.weight, again.fc1.weight) and not torch.equal(one.fc1.weight, other.fc1.weight)


def test_unknown_names_and_impossible_sizes_are_refused():
    with pytest.raises(InvalidInput, match="unknown model 'lenet'.*Did you mean 'lenet5'"):
        models.build("lenet", classes=10)
    with pytest.raises(InvalidInput, match="at least 4 pixels, not 3"):
        models.build("lenet5", classes=10, image_size=3)
    with pytest.raises(InvalidInput, match="LeNet-5 has no pretrained weights here; use init: scratch"):
        models.build("lenet5", classes=10, init="pretrained")

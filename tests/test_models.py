"""Networks have the published sizes, work at any image size and are drawn from their seed alone."""

import pytest
import torch

from kdlib import models
from kdlib.catalogue import MODELS
from kdlib.errors import InvalidInput
from tests.nets import count_parameters

BUILT = [name for name, model in MODELS.items() if model.builder.startswith("models:")]  # written by hand


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("resnet56", 853_018), ("lenet5", 62_006)])
def test_parameter_counts(name, parameters):
    """0.27 M and 0.85 M are He et al.'s; LeNet-5's by hand: 456 + 2416 + 48120 + 10164 + 850."""
    assert count_parameters(models.build(name, classes=10)) == parameters


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


@pytest.mark.parametrize("side", [8, 9])
def test_the_shortcut_takes_every_second_pixel_and_fills_channels_with_zeros(side):
    x = torch.randn(2, 3, side, side)
    block = models.Block(3, 7, stride=2)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    expected = torch.zeros(2, 7, (side + 1) // 2, (side + 1) // 2)
    expected[:, 2:5] = x[:, :, ::2, ::2].relu()
    assert torch.equal(block(x), expected)


def test_gradients_stay_channels_last_from_the_last_layer_to_the_first():
    """One that does not makes each operation that it meets with the others several times slower."""
    model, found = models.build("resnet8", classes=4).to(memory_format=torch.channels_last), []
    for layer in model.blocks:
        layer.register_full_backward_hook(lambda layer, _, grads: found.append(grads[0]))
    model(torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)).square().sum().backward()
    assert len(found) == 3 and all(grad.is_contiguous(memory_format=torch.channels_last) for grad in found)


def test_weights_depend_on_the_seed_alone_and_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, again, other = (models.seeded(lambda: models.build("lenet5", classes=10), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.fc1.weight, again.fc1.weight) and not torch.equal(one.fc1.weight, other.fc1.weight)


def test_unknown_names_and_impossible_sizes_are_refused():
    with pytest.raises(InvalidInput, match="'lenet'"):
        models.build("lenet", classes=10)
    with pytest.raises(InvalidInput, match="LeNet-5 .* 3"):
        models.build("lenet5", classes=10, image_size=3)
    with pytest.raises(InvalidInput, match="'pretrained'.*LeNet-5"):
        models.build("lenet5", classes=10, init="pretrained")

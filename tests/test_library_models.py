"""Networks of torchvision and timm: published sizes, the small stem, training steps, what is refused."""

import sys

import pytest
import torch
import torch.nn.functional as F

from kdlib import models
from kdlib.catalogue import MODELS
from kdlib.errors import DataError, InvalidInput
from tests.nets import count_parameters

NAMES = [name for name, model in MODELS.items() if model.builder.startswith("library_models:")]
# In millions of parameters, as He et al., Huang et al., Dosovitskiy et al. and Wu et al. print them, or the paper.
PUBLISHED = {"resnet20": 0.27, "resnet32": 0.46, "resnet56": 0.85, "resnet18": 11.4, "resnet50": 24.0}
PUBLISHED |= {"densenet121": 7.0, "densenet169": 12.5, "vit_base": 86.0, "tinyvit": 21.0}
TINY = {"vit_base": 16, "tinyvit": 32}  # pixels of a test image; the others 8


def count(name: str, **options: int) -> int:
    with torch.device("meta"):  # shapes alone: nothing is drawn
        return count_parameters(models.build(name, **options))


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_published_size_lies_between_the_heads_of_two_and_of_a_thousand_classes(name, published):
    """The paper's studies have 2 to 1000 classes, and a published number does not say whose head it counts.

    So the tolerance is the head, and half of the published number's last digit.
    """
    half = 0.5 if published == round(published) else 0.05 if published > 1 else 0.005
    size = 224 if MODELS[name].builder.startswith("library_models:") and "densenet" not in name else 32
    least, most = (count(name, classes=classes, image_size=size) / 1e6 for classes in (2, 1000))
    assert least - half <= published <= most + half


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("densenet121", 7_978_856),
        ("densenet169", 14_149_480),
        ("vit_base", 86_567_656),
        ("tinyvit", 21_198_568),
    ],
)
def test_for_imagenet_the_size_is_the_one_that_torchvision_and_timm_publish(name, parameters):
    assert count(name, classes=1000, image_size=224) == parameters


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "densenet169"])
def test_up_to_32_pixels_the_first_convolution_is_small_and_nothing_is_pooled_after_it(name):
    """By hand: 64 maps of 3 channels, 7 x 7 or 3 x 3; and the map behind the stem has the image's own size."""
    sizes = [count(name, classes=10, image_size=size) for size in (32, 33)]
    assert sizes[1] - sizes[0] == 64 * 3 * (49 - 9)
    for size, expected in ((32, 32), (64, 16)):
        seen = []
        with torch.device("meta"):
            model = models.build(name, classes=10, image_size=size)
            behind = model.maxpool if "resnet" in name else model.features.pool0
            behind.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out.shape))
            model(torch.zeros(2, 3, size, size))
        assert seen == [(2, 64, expected, expected)]


@pytest.mark.parametrize("name", NAMES)
def test_training_moves_every_weight(name):
    """Two steps, as training takes them, channels_last: the first leaves what is behind branches that start at zero."""
    torch.manual_seed(0)
    size = TINY.get(name, 8)
    model = models.build(name, classes=5, image_size=size).to(memory_format=torch.channels_last).train()
    for module in model.modules():
        if hasattr(module, "drop_prob"):  # of TinyViT: a branch dropped for both images in both steps would not move
            module.drop_prob = 0.0
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(logits := model(x), torch.tensor([0, 3])).backward()
        optimizer.step()
    assert logits.shape == (2, 5) and torch.isfinite(logits).all()
    assert not [key for key, value in model.named_parameters() if torch.equal(value, before[key])]


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_memory_changes_nothing_and_no_two_weights_share_it(name):
    """Training works in channels_last; safetensors stores no tensors that share memory."""
    torch.manual_seed(0)
    size = TINY.get(name, 8)
    model = models.build(name, classes=5, image_size=size).eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        plain = model(x)
        model.to(memory_format=torch.channels_last)
        assert torch.allclose(model(x.contiguous(memory_format=torch.channels_last)), plain, atol=1e-4)
    state = model.state_dict()
    assert len({value.untyped_storage().data_ptr() for value in state.values()}) == len(state)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 8), ("densenet121", 8), ("vit_base", 16), ("tinyvit", 32)])
def test_gray_images_are_read_as_well(name, size):
    with torch.device("meta"):
        assert models.build(name, classes=7, channels=1, image_size=size)(torch.zeros(2, 1, size, size)).shape == (2, 7)


def test_weights_depend_on_the_seed_alone():
    for name in ("resnet18", "densenet121", "tinyvit"):
        one, again, other = (
            models.seeded(lambda name=name: models.build(name, classes=3), seed).state_dict() for seed in (1, 1, 2)
        )
        assert all(torch.equal(one[key], again[key]) for key in one)
        drawn = [key for key in one if one[key].ndim > 1 and "attention_biases" not in key]  # those start at zero
        assert drawn and not [key for key in drawn if torch.equal(one[key], other[key])]


def test_transformers_train_with_the_dropout_of_their_papers():
    """ViT: dropout 0.1, table 3 for ImageNet alone. TinyViT-21M: stochastic depth that grows to 0.2."""
    with torch.device("meta"):
        vit, tiny = (models.build(name, classes=2, image_size=32) for name in ("vit_base", "tinyvit"))
    assert {m.p for m in vit.modules() if isinstance(m, torch.nn.Dropout)} == {0.0, 0.1}
    assert max(getattr(m, "drop_prob", 0.0) or 0.0 for m in tiny.modules()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("densenet121", 7, "densenet121 .* 7"),
        ("vit_base", 40, "vit_base .* 40"),
        ("vit_base", 0, "vit_base .* 0"),
    ],
)
def test_impossible_sizes_are_refused(name, size, message):
    with pytest.raises(InvalidInput, match=message):
        models.build(name, classes=10, image_size=size)


@pytest.mark.parametrize(("name", "library"), [("tinyvit", "timm"), ("resnet18", "torchvision.models")])
def test_a_missing_library_is_named_with_its_extra(name, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError, match=library):
        models.build(name, classes=10)

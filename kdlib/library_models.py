"""Networks of other libraries: ResNet and DenseNet of torchvision, ViT and TinyViT of timm.

Input (N, channels, H, W) float, output logits (N, C). Fresh weights from torch's global generator; nothing is fetched.
"""

import importlib
from functools import partial
from types import ModuleType

from torch import nn

from kdlib.errors import InvalidInput

SMALL = 32  # pixels: up to here the first convolution is 3 x 3 with stride 1, without the max pooling behind it


def _resnet(name: str, *, classes: int, channels: int, image_size: int) -> nn.Module:
    """A ResNet for ImageNet of He et al. 2016; up to 32 pixels with the stem of the CIFAR ones."""
    model = getattr(_library("torchvision.models"), name)(weights=None, num_classes=classes)
    model.conv1 = _first_convolution(channels, image_size, "fan_out")
    if image_size <= SMALL:
        model.maxpool = nn.Identity()
    return model


def _densenet(name: str, *, classes: int, channels: int, image_size: int) -> nn.Module:
    """A DenseNet-BC for ImageNet of Huang et al. 2017, growth 32; up to 32 pixels with the stem of the CIFAR ones.

    Raises InvalidInput below 8 pixels: three poolings halve the image.
    """
    if image_size < 8:
        raise InvalidInput(f"{name} needs images of at least 8 pixels, not {image_size}.")
    model = getattr(_library("torchvision.models"), name)(weights=None, num_classes=classes)
    model.features.conv0 = _first_convolution(channels, image_size, "fan_in")
    if image_size <= SMALL:
        model.features.pool0 = nn.Identity()
    return model


def vit_base(*, classes: int, channels: int, image_size: int) -> nn.Module:
    """ViT-B/16 of Dosovitskiy et al. 2021, with the dropout of 0.1 that they train with on ImageNet alone (table 3).

    Raises InvalidInput for images that are not whole patches of 16 pixels.
    """
    if image_size < 16 or image_size % 16:
        raise InvalidInput(
            f"vit_base reads patches of 16 pixels: give an image_size of 16, 32, 48 .., not {image_size}."
        )
    return _library("timm").create_model(
        "vit_base_patch16_224",
        num_classes=classes,
        in_chans=channels,
        img_size=image_size,
        proj_drop_rate=0.1,
        pos_drop_rate=0.1,
    )


def tinyvit(*, classes: int, channels: int, image_size: int) -> nn.Module:
    """TinyViT-21M of Wu et al. 2022, with their stochastic depth of 0.2. Any image_size will do; 224 is theirs."""
    return _library("timm").create_model("tiny_vit_21m_224", num_classes=classes, in_chans=channels, drop_path_rate=0.2)


resnet18 = partial(_resnet, "resnet18")
resnet50 = partial(_resnet, "resnet50")
densenet121 = partial(_densenet, "densenet121")
densenet169 = partial(_densenet, "densenet169")


def _first_convolution(channels: int, image_size: int, mode: str) -> nn.Conv2d:
    """64 maps; mode as the family's own initialisation has it, which this one would otherwise miss."""
    side, stride = (3, 1) if image_size <= SMALL else (7, 2)
    convolution = nn.Conv2d(channels, 64, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode=mode, nonlinearity="relu")
    return convolution


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidInput(f"{name} is missing, or does not load: pip install 'kdlib[vision]'. ({error})") from error

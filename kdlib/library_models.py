"""Networks of other libraries: ResNet and DenseNet of torchvision, ViT and TinyViT of timm.

Input (N, channels, H, W) float, output logits (N, C). Fresh weights from torch's global generator; nothing is fetched.
"""

from functools import partial

from torch import nn

from kdlib.errors import InvalidInput, library

SMALL = 32  # pixels: up to here the first convolution is 3 x 3 with stride 1, without the max pooling behind it

# Of each family: its first convolution, the pooling behind it, and how the family draws the convolution's weights.
STEMS = {
    "resnet": ("conv1", "maxpool", "fan_out"),
    "densenet": ("features.conv0", "features.pool0", "fan_in"),
}


def _torchvision(name: str, *, classes: int, channels: int, image_size: int) -> nn.Module:
    """A ResNet (He et al. 2016) or a DenseNet-BC of growth 32 (Huang et al. 2017) for ImageNet.

    Up to 32 pixels with the stem of the CIFAR ones. Raises InvalidInput for a DenseNet below 8: three poolings halve
    the image.
    """
    stem, pool, mode = STEMS[name.rstrip("0123456789")]
    if pool.startswith("features.") and image_size < 8:
        raise InvalidInput(f"{name} needs images of at least 8 pixels, not {image_size}.")
    model = getattr(library("torchvision.models", of="torchvision"), name)(weights=None, num_classes=classes)
    side, stride = (3, 1) if image_size <= SMALL else (7, 2)
    convolution = nn.Conv2d(channels, 64, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode=mode, nonlinearity="relu")
    model.set_submodule(stem, convolution)
    if image_size <= SMALL:
        model.set_submodule(pool, nn.Identity())
    return model


def vit_base(*, classes: int, channels: int, image_size: int) -> nn.Module:
    """ViT-B/16 of Dosovitskiy et al. 2021, with the dropout of 0.1 that they train with on ImageNet alone (table 3).

    Raises InvalidInput for images that are not whole patches of 16 pixels.
    """
    if image_size < 16 or image_size % 16:
        raise InvalidInput(f"vit_base reads patches of 16 pixels: give image_size 16, 32, 48 .., not {image_size}.")
    size = {"num_classes": classes, "in_chans": channels, "img_size": image_size}
    dropout = {"proj_drop_rate": 0.1, "pos_drop_rate": 0.1}
    return library("timm", of="kdlib[vision]").create_model("vit_base_patch16_224", **size, **dropout)


def tinyvit(*, classes: int, channels: int, image_size: int) -> nn.Module:
    """TinyViT-21M of Wu et al. 2022, with their stochastic depth of 0.2. Any image_size will do; 224 is theirs."""
    timm = library("timm", of="kdlib[vision]")
    return timm.create_model("tiny_vit_21m_224", num_classes=classes, in_chans=channels, drop_path_rate=0.2)


resnet18 = partial(_torchvision, "resnet18")
resnet50 = partial(_torchvision, "resnet50")
densenet121 = partial(_torchvision, "densenet121")
densenet169 = partial(_torchvision, "densenet169")

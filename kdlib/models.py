"""Networks by name: LeNet-5 and the CIFAR ResNets. Input (N, channels, H, W) float, output logits (N, C)."""

from functools import partial
from itertools import pairwise
from pkgutil import resolve_name

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.catalogue import MODELS, network
from kdlib.errors import InvalidInput, require_known


def build(name: str, *, classes: int, init: str = "scratch", source: str = "", **input_: int) -> nn.Module:
    """A network with fresh weights, drawn from torch's global generator: seed it before.

    init    'pretrained' takes published weights for all but the last layer
    input_  of networks that read images channels (3) and image_size (32); of those that read text vocabulary and
            tokens (of the longest text)
    source  the code of anyone's own network, 'nets.py:mynet@<sha256>'
    Raises InvalidInput for an unknown name, an init that a network does not have, or a size that leaves nothing after
    its pooling; DataError where published weights are not on this machine and cannot be fetched.
    """
    if not source:
        require_known("model", name, MODELS)
    known = network(name)
    if init != "scratch" and not (init == "pretrained" and known.pretrained):
        raise InvalidInput(f"init {init!r}: {known.title} has no such weights here; use init: scratch.")
    if not known.builder:
        raise InvalidInput(f"model {name!r} is no network: its predictions are drawn, there is nothing to build.")
    builder = resolve_name(f"kdlib.{known.builder}")
    if known.kind == "own":
        return builder(name, source, classes=classes, **input_)
    if known.kind == "images":
        input_ = {"channels": 3, "image_size": 32} | input_
    return builder(classes=classes, **input_, **({"init": init} if known.pretrained else {}))


class LeNet5(nn.Module):
    """LeCun et al. 1998 with ReLU and max pooling: two 5 x 5 convolutions (6 and 16 maps), layers of 120, 84 and C.

    Convolutions are unpadded, as in the original; below 28 pixels they are padded by 2, or too little would be left.
    """

    def __init__(self, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        padding = 2 if image_size < 28 else 0
        side = ((image_size - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2
        if side < 1:
            raise InvalidInput(f"LeNet-5 needs images of at least 4 pixels, not {image_size}.")
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=padding)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2), inplace=True)  # as pooling after ReLU, on a quarter of the values
        x = F.relu(F.max_pool2d(self.conv2(x), 2), inplace=True)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a parameter-free shortcut, "option A" of He et al. 2016, section 4.2."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - width_in
        self.networks = 1  # of which x has the channels side by side: see training.wide

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        if self.extra:  # subsample, and fill the new channels with zeros
            x = self.subsample(x).permute(0, 2, 3, 1).unflatten(3, (self.networks, -1))
            x = F.pad(x, (self.extra // 2, self.extra - self.extra // 2)).flatten(3).permute(0, 3, 1, 2)
        return F.relu(out.add_(x), inplace=True)

    def subsample(self, x: Tensor) -> Tensor:
        """Every stride-th pixel. Slices would do, but their gradient is not channels_last, which makes all that meets
        it several times slower (a tenth of a step in bf16)."""
        return F.avg_pool2d(x, 1, self.stride)


class CifarResNet(nn.Module):
    """The 6n+2-layer ResNet for 32-pixel images of He et al. 2016, section 4.2: widths 16, 32, 64, n blocks each.

    It ends in a mean over pixels, so any image_size will do.
    """

    def __init__(self, depth: int, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        widths = [16] + [w for w in (16, 32, 64) for _ in range(blocks)]
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*(Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths)))
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x)), inplace=True))
        return self.fc(x.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1))  # over pixels; its gradient is channels_last


lenet5 = LeNet5
resnet8 = partial(CifarResNet, 8)
resnet20 = partial(CifarResNet, 20)
resnet32 = partial(CifarResNet, 32)
resnet56 = partial(CifarResNet, 56)


def seeded(build_model, seed: int) -> nn.Module:
    """`build_model()` with its weights drawn from `seed`, torch's global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model()

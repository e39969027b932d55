"""Networks of profiles here that kdlib has not: `model: nets.py:name`."""

from torch import Tensor, nn
from torch.nn import functional

from kdlib.models import CifarResNet


class HalvedResNet(nn.Module):
    """A CIFAR ResNet that sees the mean of every 2 x 2 pixels: a quarter of the work, and twice the field of view.

    At 64 pixels a shape of Trifeature is 37 wide, and a unit of ResNet-8 sees 25.
    """

    def __init__(self, depth: int, **about: int) -> None:
        super().__init__()
        self.network = CifarResNet(depth, **about)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(functional.avg_pool2d(x, 2))


def halved_resnet8(*, classes: int, channels: int, image_size: int) -> nn.Module:
    return HalvedResNet(8, classes=classes, channels=channels, image_size=image_size)

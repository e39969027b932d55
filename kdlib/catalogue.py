"""Literal facts of data sets, models and artefacts (artefacts.yaml), so that names can be checked without torch.

Loaders and constructors are strings 'module:function', imported only when they are called.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEVICES = ("auto", "cpu", "cuda", "none")  # 'none' trains nothing


@dataclass(frozen=True)
class Dataset:
    """title     for figures; {names} in braces are options of the loader
    loader       'module:function' below kdlib.data; '' where nothing is loaded
    options      every option of the loader with its default; all of them are part of a run's identity
    choices      the valid values of an option that takes names
    ranges       the least and the most of an option that takes whole numbers, where these are not 0 and a billion
    groups       sensitive features it provides, label features excluded
    parts        what can be loaded; a validation part is reported beside the test part
    kind         'images', 'text' or 'simulated'
    binary       whether there are two classes
    twins        whether the test part has counterfactual twins
    best_epoch   whether a run keeps the weights of its best epoch on the validation part, not those of the last
    in_paper     whether the paper studies it; everything else is a stand-in
    later        options that came after the first runs: a run's identity has them only where they are not the default
    pad          what random crops are padded with, 0 .. 255
    """

    title: str
    loader: str
    options: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("train", "test")
    kind: str = "images"
    binary: bool = False
    twins: bool = False
    best_epoch: bool = False
    in_paper: bool = True
    later: tuple[str, ...] = ()
    pad: int = 0


CELEBA = {"label": "smiling", "image_size": 64, "balance": True}
CELEBA_GROUPS = {"young": "Young", "male": "Male"}  # and their official names
OF_CELEBA = {
    "choices": {"label": ("smiling", "eyeglasses")},
    "groups": tuple(CELEBA_GROUPS),
    "parts": ("train", "validation", "test"),
    "binary": True,
}
WORLDS = ("nothing", "a uniform shift", "a fifth of the classes moved", "an inherited profile", "one group harmed")
DATASETS = {
    "digits": Dataset(
        "Handwritten digits (scikit-learn)",
        "vision:load_digits",
        {"train_images": 300, "seed": 0},
        ranges={"train_images": (10, 1787)},  # so both parts have every class
        in_paper=False,
    ),
    "trifeature": Dataset(
        "Trifeature",
        "trifeature:load",
        {"label": "shape", "image_size": 224, "per_combination": 100, "split": "image", "test_images": 6000, "seed": 0},
        {"label": ("shape", "texture", "color", "shape x color"), "split": ("image", "balanced", "combination")},
        {"per_combination": (1, 2**20), "image_size": (16, 4096)},
        groups=("shape", "color", "texture"),
        twins=True,
        pad=128,
    ),
    "trifeature-biased": Dataset(
        "Trifeature, biased, ρ {rho_train:g}",
        "biased:load_biased",
        {
            "label": "convex",
            "rho_train": 0.6,
            "rho_test": 0.0,
            "group_share": 0.5,
            "train_images": 3000,
            "test_images": 1000,
            "image_size": 32,
            "seed": 0,
        },
        {"label": ("convex",)},
        {"train_images": (1, None), "test_images": (1, None)},
        groups=("color_set",),
        binary=True,
        twins=True,
        in_paper=False,
        pad=128,
    ),
    "cifar10": Dataset("CIFAR-10", "vision:load_cifar10", {"image_size": 32}, ranges={"image_size": (1, 32)}),
    "cifar100": Dataset("CIFAR-100", "vision:load_cifar100", {"image_size": 32}, ranges={"image_size": (1, 32)}),
    "svhn": Dataset("SVHN", "vision:load_svhn", {"image_size": 32}, ranges={"image_size": (1, 32)}),
    "tiny_imagenet": Dataset(
        "Tiny ImageNet", "vision:load_tiny_imagenet", {"image_size": 64}, ranges={"image_size": (1, 64)}
    ),
    "imagenet": Dataset("ImageNet", "vision:load_imagenet", {"image_size": 224}, ranges={"image_size": (1, None)}),
    "celeba": Dataset("CelebA", "faces:load_celeba", CELEBA, ranges={"image_size": (1, None)}, **OF_CELEBA),
    # A part of CelebA, whichever one has: its counts are part of a run's identity.
    "celeba64": Dataset(
        "CelebA, {train_images:,} training and {test_images:,} test images",
        "faces:load_celeba64",
        CELEBA | {"train_images": 162_770, "validation_images": 19_867, "test_images": 19_962},
        ranges={"image_size": (1, 64)},
        in_paper=False,
        **OF_CELEBA,
    ),
    "utkface": Dataset(
        "UTKFace",
        "faces:load_utkface",
        {"label": "gender", "image_size": 64, "test_share": 0.3, "seed": 0},
        {"label": ("gender",)},
        {"image_size": (1, 64)},
        groups=("race", "age"),
        binary=True,
        in_paper=False,
    ),
    "hatexplain": Dataset(
        "HateXplain",
        "text:load_hatexplain",
        {"tokens": 128, "tokenizer": "bert-base-uncased", "vocabulary": 8000},
        {"tokenizer": ("bert-base-uncased", "learnt")},
        {"tokens": (3, 512), "vocabulary": (1000, 50_000)},
        groups=("gender", "race", "gender_majority", "race_majority"),
        parts=("train", "validation", "test"),
        kind="text",
        binary=True,
        twins=True,
        best_epoch=True,
    ),
    # Predictions that `predictions.worlds` draws from a known truth; there is nothing to load or train.
    "simulated": Dataset(
        "Simulated, nothing was trained: world '{world}', {classes} classes",
        "",
        {"world": "nothing", "classes": 100, "images": 100, "groups": 0, "seed": 0},
        {"world": WORLDS},
        {"classes": (2, 1000), "images": (1, 10_000), "groups": (0, 9)},
        groups=("group",),
        parts=("test",),
        kind="simulated",
        in_paper=False,
    ),
    "own": Dataset(
        "{name}",
        "own:load_own",
        {"name": "", "image_size": 32, "fingerprint": "", "train_images": 0},
        ranges={"image_size": (1, None)},
        parts=("train", "validation", "test"),
        in_paper=False,
        later=("train_images",),
    ),
}


@dataclass(frozen=True)
class Model:
    """title     as the paper writes it
    builder      'module:function' below kdlib; '' of what is no network
    kind         what it reads: 'images' or 'text'; 'simulated' of what is no network, 'own' of anyone's own network
    pretrained   whether there are published weights to begin with
    """

    title: str
    builder: str
    kind: str = "images"
    pretrained: bool = False


MODELS = {
    "lenet5": Model("LeNet-5", "models:lenet5"),
    "resnet8": Model("ResNet-8", "models:resnet8"),
    "resnet20": Model("ResNet-20", "models:resnet20"),
    "resnet32": Model("ResNet-32", "models:resnet32"),
    "resnet56": Model("ResNet-56", "models:resnet56"),
    "resnet18": Model("ResNet-18", "library_models:resnet18"),
    "resnet50": Model("ResNet-50", "library_models:resnet50"),
    "densenet121": Model("DenseNet-121", "library_models:densenet121"),
    "densenet169": Model("DenseNet-169", "library_models:densenet169"),
    "vit_base": Model("ViT-Base", "library_models:vit_base"),
    "tinyvit": Model("TinyViT", "library_models:tinyvit"),
    "bert_base": Model("BERT-Base", "text_models:bert_base", kind="text", pretrained=True),
    "distilbert": Model("DistilBERT", "text_models:distilbert", kind="text", pretrained=True),
    "bert_mini": Model("BERT-Mini (4 × 256)", "text_models:bert_mini", kind="text"),
    "bert_tiny": Model("BERT-Tiny (2 × 128)", "text_models:bert_tiny", kind="text"),
    "drawn": Model("drawn, not trained", "", kind="simulated"),
    "bert_1x64": Model("BERT 1 × 64", "text_models:bert_1x64", kind="text"),
}


def network(name: str) -> Model:
    """One of MODELS, or anyone's own, 'nets.py:mynet@<sha256 of the file>', which may read anything (kind 'own')."""
    return MODELS.get(name) or Model(name.partition("@")[0].partition(":")[2], "own_models:build", kind="own")


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the paper, and what it needs of the studies that it shows.

    notebook     its file in notebooks/
    seeds, temperatures  the fewest
    groups       whether it compares groups
    datasets     the only ones that it can show; empty: any
    of_paper     whether it is about the paper itself, and has nothing to say of one's own studies
    """

    title: str
    notebook: str
    seeds: int = 2
    temperatures: int = 1
    groups: bool = False
    datasets: Sequence[str] = ()
    of_paper: bool = False


ARTEFACTS = {
    name: Artefact(**facts)
    for name, facts in yaml.safe_load(Path(__file__).with_name("artefacts.yaml").read_text(encoding="utf-8")).items()
}


def groups_by(sensitive: str) -> str:
    """A sensitive feature in words: 'Male', or 'gender, majority' for the groups that most annotators name."""
    return CELEBA_GROUPS.get(sensitive, sensitive.replace("_majority", ", majority").replace("_", " "))

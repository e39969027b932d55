"""Anyone's own network: its file is part of a run's identity, runs only when allowed, and is tried first."""

import re

import pytest

from kdlib import models, store
from kdlib.catalogue import network
from kdlib.errors import InvalidInput, ProfileError, StoreError
from kdlib.studies import load_profile
from kdlib.training import inference, sweep
from tests.conftest import TINY

NETS = """
from torch import nn


def mynet(*, classes, channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))
"""


@pytest.fixture
def own(tmp_path):
    """The tiny profile with a student of one's own beside it: a function that reads it again."""
    text = (
        TINY.replace("model: lenet5", "model: nets.py:mynet").replace("seeds: 2", "seeds: 1").replace("[1, 4]", "[4]")
    )
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")

    def read(code=NETS):
        (tmp_path / "nets.py").write_text(code, encoding="utf-8")
        return load_profile(tmp_path / "tiny.yaml").study("tiny")

    return read


def train(study, folder, **options):
    return sweep.train(study, runs_dir=folder, workers=1, device="cpu", say=lambda line: None, **options)


def test_another_file_is_another_run_and_nothing_else_of_it_shows(own):
    before, after = own(), own(NETS + "# changed\n")
    assert [a.id == b.id for a, b in zip(before.runs(), after.runs(), strict=True)] == [True, False, False]
    assert re.fullmatch(r"nets\.py:mynet@[0-9a-f]{64}", before.student["model"])
    assert str(before.runs()[1]) == "digits nets.py:mynet nds seed 0" and before.title.endswith("ResNet-8 → mynet")
    assert network(before.student["model"]).kind == "own"


def test_code_runs_only_where_it_is_allowed(own, tmp_path):
    study = own(f"open({str(tmp_path / 'ran')!r}, 'w')\n{NETS}")
    with pytest.raises(InvalidInput, match=r"nets\.py:mynet is code .* --allow-code"):
        train(study, tmp_path / "runs")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "runs").exists()


def test_it_trains_and_its_runs_can_be_opened_again(own, tmp_path):
    study, runs = own(), tmp_path / "runs"
    assert train(study, runs, allow_code=True).complete
    (tmp_path / "nets.py").unlink()  # the runs keep their code
    model = inference.load_model(runs, study.runs()[1], classes=10, channels=3, image_size=8)
    assert model[1].weight.shape == (10, 192)
    (code,) = (runs / "code").iterdir()
    code.write_text(NETS + "\n")
    with pytest.raises(StoreError, match="sha256"):
        store.read_code(runs, study.student["model"])
    code.unlink()
    with pytest.raises(StoreError, match=str(code)):
        store.read_code(runs, study.student["model"])


BAD = {
    "import nothing_like_this": r"nets\.py, line 1: it does not run: ModuleNotFoundError",
    "\n\ndef mynet(:": r"nets\.py, line 3: it does not run: SyntaxError",
    "raise SystemExit(0)": r"nets\.py, line 1: it does not run: SystemExit",
    "def my_net(**_): pass": r"unknown function 'mynet' in nets\.py\. Did you mean 'my_net'",
    "mynet = 5": "unknown function 'mynet'",
    "def mynet(classes): pass": r"mynet\(classes=10, channels=3, image_size=8\), as kdlib calls it, fails: TypeError",
    "def mynet(**_):\n    return 5": "nets.py:mynet gives int; it has to return a torch.nn.Module",
    NETS.replace(", classes)", ", 7)"): r"gives \(2, 7\) for \(2, 3, 8, 8\); it has to give logits \(2, 10\)",
    NETS.replace("channels *", "1 *"): r"fails on a batch \(2, 3, 8, 8\): RuntimeError: mat1 and mat2",
    "from torch import nn\ndef mynet(**_):\n    return nn.Flatten()": r"gives \(2, 192\)",
    NETS.replace("return ", "net = ") + "    return net.requires_grad_(False)": "has no weights that learn",
}


@pytest.mark.parametrize(("code", "message"), BAD.items())
def test_a_bad_function_is_told_before_anything_is_trained(own, tmp_path, code, message):
    study = own(code)
    with pytest.raises(InvalidInput, match=message) as caught:
        train(study, tmp_path / "runs", allow_code=True)
    assert "\n" not in str(caught.value)
    assert all(store.state(tmp_path / "runs", run) == "missing" for run in study.runs())


def test_a_file_that_is_not_there_or_elsewhere_is_refused_with_the_place(own, tmp_path):
    own()
    (tmp_path / "nets.py").unlink()
    with pytest.raises(ProfileError, match=r"tiny\.yaml: studies\.tiny\.student\.model: cannot read .*nets\.py"):
        load_profile(tmp_path / "tiny.yaml")
    for name in ("../nets.py:mynet", "/nets.py:mynet", "nets.py", "nets.py:my net", "nets.py:mynet@1"):
        (tmp_path / "tiny.yaml").write_text(TINY.replace("lenet5", f"'{name}'"), encoding="utf-8")
        with pytest.raises(ProfileError, match="unknown model"):
            load_profile(tmp_path / "tiny.yaml")


def test_without_its_code_it_cannot_be_built(own):
    with pytest.raises(InvalidInput, match="unknown model 'nets.py:mynet"):
        models.build(own().student["model"], classes=10)

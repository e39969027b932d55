"""The training loop: views, recipe, teacher's table, resuming bit for bit, failures. Uses the real digits."""

import contextlib
import platform
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from kdlib import data, files, models, store
from kdlib.catalogue import DATASETS
from kdlib.errors import DataError, InvalidInput, StoreError, TrainingFailed
from kdlib.training import inference, logit_table, loop, process
from kdlib.training.schedule import batch_bounds, epoch_plan, learning_rate
from kdlib.training.teacher import Teacher, table_path, uses_table
from kdlib.training.views import Views, make_views
from tests.conftest import train_run


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def never():
    return False


def weights(folder, run):
    return store.read_weights(folder, run)


def raw_views(image, crop, flip, pad=0):
    """Views of one image (C, H, W) whose batches are the plain pixels."""
    padded = torch.nn.functional.pad(image[None], (crop,) * 4, value=pad)
    return Views(padded, torch.zeros(1, dtype=torch.int64), crop, flip, torch.zeros(1), torch.ones(1))


def test_every_view_is_the_padded_image_cropped_then_flipped():
    image = torch.arange(2 * 4 * 4, dtype=torch.uint8).view(2, 4, 4)
    views = raw_views(image, crop=2, flip=True, pad=9)
    padded = np.pad(image.numpy(), ((0, 0), (2, 2), (2, 2)), constant_values=9)
    assert views.count == 50
    for view in range(views.count):
        dy, dx, flip = view // 2 // 5, view // 2 % 5, view % 2
        expected = padded[:, dy : dy + 4, dx : dx + 4]
        got = views.batch(torch.tensor([0]), torch.tensor([view]))[0].numpy()
        assert np.array_equal(got, expected[:, :, ::-1] if flip else expected)


@pytest.mark.parametrize(("crop", "flip"), [(0, False), (0, True), (1, False), (4, True)])
def test_the_plain_view_is_the_image(crop, flip):
    image = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
    views = raw_views(image, crop, flip)
    plain = (crop * (2 * crop + 1) + crop) * (1 + flip)  # moved by `crop` to the right and down, not mirrored
    assert torch.equal(views.batch(torch.tensor([0]), torch.tensor([plain]))[0], image.float())


def test_training_images_are_normalised_by_their_channels_and_test_images_likewise():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    views = make_views(train)
    x = views.batch(torch.arange(len(train.y)), torch.zeros(len(train.y), dtype=torch.int64))
    assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3)
    assert make_views(test, like=views).mean is views.mean


def test_step_schedule_divides_at_its_milestones(teacher):
    run = replace(teacher, epochs=100, lr=0.1, schedule={"name": "step", "milestones": [0.3, 0.6, 0.9], "gamma": 0.1})
    rates = [learning_rate(run, e) for e in (0, 29.99, 30, 59.9, 60, 89.9, 90, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_cosine_schedule_with_warmup(teacher):
    run = replace(teacher, epochs=10, lr=1.0, warmup=2.0, schedule={"name": "cosine"})
    assert [learning_rate(run, e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    assert learning_rate(replace(run, schedule={"name": "constant"}), 9) == 1.0


def test_an_epoch_sees_every_image_once_and_depends_on_run_and_epoch_alone(teacher, student):
    order, view = epoch_plan(teacher, 3, 50, 9)
    assert sorted(order) == list(range(50)) and set(view) <= set(range(9)) and len(set(view)) > 3
    again, _ = epoch_plan(teacher, 3, 50, 9)
    assert np.array_equal(order, again)
    assert not np.array_equal(order, epoch_plan(teacher, 4, 50, 9)[0])
    assert not np.array_equal(order, epoch_plan(student, 3, 50, 9)[0])


@pytest.mark.parametrize(
    ("n", "size", "bounds"),
    [
        (10, 4, [(0, 4), (4, 8), (8, 10)]),
        (9, 4, [(0, 4), (4, 9)]),
        (8, 4, [(0, 4), (4, 8)]),
        (3, 64, [(0, 3)]),
        (1, 4, [(0, 1)]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(n, size, bounds):
    assert batch_bounds(n, size) == bounds


def test_a_run_learns_and_saves_what_measuring_needs(tmp_path, runs):
    run = replace(runs["teacher", 0, None], epochs=40)
    train_run(run, runs_dir=tmp_path)
    arrays, provenance = store.read(tmp_path, run)
    assert arrays["logits"].shape == (1697, 10) and arrays["logits"].dtype == np.float32
    assert (arrays["logits"].argmax(1) == arrays["labels"]).mean() > 0.7  # chance is 0.1
    assert len(provenance["history"]) == 40 and provenance["history"][-1]["loss"] < provenance["history"][0]["loss"]
    assert provenance["train_images"] == 100 and provenance["seconds"] > 0


def test_a_run_also_answers_the_twins_of_the_test_part(tmp_path, teacher):
    options = {"label": "shape", "image_size": 16, "per_combination": 1, "split": "image", "test_images": 100}
    run = replace(teacher, dataset="trifeature", data=options | {"seed": 0}, model="lenet5", epochs=1, augment={})
    train_run(run, runs_dir=tmp_path)
    arrays, _ = store.read(tmp_path, run)
    assert {name for name in arrays if name.startswith("twin:")} == {"twin:color", "twin:texture"}
    train, test = (data.load("trifeature", part, **options) for part in ("train", "test"))
    model = inference.load_model(tmp_path, run, classes=10, channels=3, image_size=16)
    for name, images in (("logits", test.x), ("twin:color", test.twins["color"])):
        views = make_views(replace(test, x=images), like=make_views(train))
        assert np.array_equal(arrays[name], inference.forward_all(model, views, 0).numpy())
    assert not np.array_equal(arrays["twin:color"], arrays["logits"])


def test_the_same_seed_twice_gives_the_same_bits_and_another_seed_does_not(tmp_path, runs):
    one, other = runs["nds", 0, None], runs["nds", 1, None]
    for folder, run in (("a", one), ("b", one), ("a", other)):
        train_run(run, runs_dir=tmp_path / folder)
    assert weights(tmp_path / "a", one) == weights(tmp_path / "b", one) != weights(tmp_path / "a", other)


@pytest.mark.parametrize("stop_at", [1, 4, 5, 9])
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, teacher, student, stop_at):
    train_run(teacher, runs_dir=tmp_path / "whole")
    train_run(student, runs_dir=tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    shutil.copytree(store.folder(tmp_path / "whole", teacher), store.folder(tmp_path / "cut", teacher))
    asked = iter(range(10**9))
    with pytest.raises(files.Stopped):
        train_run(student, runs_dir=tmp_path / "cut", stop=lambda: next(asked) >= stop_at)
    assert store.state(tmp_path / "cut", student) == "partial"
    train_run(student, runs_dir=tmp_path / "cut")
    assert weights(tmp_path / "cut", student) == weights(tmp_path / "whole", student)
    logits = [store.read(tmp_path / name, student)[0]["logits"] for name in ("cut", "whole")]
    assert np.array_equal(*logits)
    histories = [store.read(tmp_path / name, student)[1]["history"] for name in ("cut", "whole")]
    assert histories[0] == histories[1]
    assert not store.partial(tmp_path / "cut", student).exists()


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_checkpoint_is_dropped_and_the_run_starts_anew(tmp_path, teacher, damage):
    train_run(teacher, runs_dir=tmp_path / "whole")
    asked = iter(range(10**9))
    with pytest.raises(files.Stopped):
        train_run(teacher, runs_dir=tmp_path / "cut", stop=lambda: next(asked) >= 5)
    checkpoint = store.partial(tmp_path / "cut", teacher) / "checkpoint"
    raw = bytearray(checkpoint.read_bytes())
    raw[-1] ^= 1
    checkpoint.write_bytes(bytes(raw) if damage is None else damage)
    train_run(teacher, runs_dir=tmp_path / "cut")
    assert weights(tmp_path / "cut", teacher) == weights(tmp_path / "whole", teacher)


@pytest.fixture(scope="module")
def pictures():
    """CIFAR-shaped images that look like photographs as far as a network can tell: smooth, with texture."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(16, 3, 4, 4)))
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")
    x = 128 + 50 * smooth.numpy() + 15 * rng.normal(size=(16, 3, 32, 32))
    split = data.Split(
        ids=np.arange(16).astype(str),
        x=x.clip(0, 255).astype(np.uint8),
        y=np.arange(16),
        groups={},
        class_names=tuple("abcdefghijklmnop"),
    )
    return make_views(split, augment={"crop": 4, "flip": True})


@pytest.fixture(scope="module")
def deep_teacher(pictures):
    """ResNet-20 with the batch statistics of the pictures, so that its logits are as large as a trained one's."""
    model = models.seeded(lambda: models.build("resnet20", classes=16, image_size=32), 0)
    model = model.to(memory_format=torch.channels_last)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for _ in range(30):
            model(pictures.batch(torch.arange(16), torch.from_numpy(rng.integers(162, size=16))))
        model.fc.weight.mul_(10)
    return model.eval()


def test_table_and_live_teacher_agree_for_all_162_views(tmp_path, monkeypatch, pictures, deep_teacher):
    answers = [inference.forward_all(deep_teacher, pictures, view).numpy() for view in range(162)]
    tables = {}
    for dtype, bytes_of_fp32 in ((np.float32, 2**30), (np.float16, 1)):
        monkeypatch.setattr(logit_table, "FP32_BYTES", bytes_of_fp32)
        home = tmp_path / dtype.__name__
        table = np.array(
            process.through(logit_table.open_table(home, answers.__getitem__, shape=(162, 16, 16), stop=never))
        )
        assert table.shape == (162, 16, 16) and table.dtype == dtype
        assert len(np.unique(table.reshape(162, -1), axis=0)) == 162  # no two views answer alike
        tables[dtype] = table
    rng, largest = np.random.default_rng(2), 0
    for view in range(162):  # the images of a batch in another order and number than when the table was filled
        index = rng.permutation(16)[:13]
        x = pictures.batch(torch.from_numpy(index), torch.full((13,), view))
        with torch.no_grad():
            live = deep_teacher(x).numpy()
        assert np.abs(tables[np.float32][view, index] - live).max() < 1e-5
        assert np.abs(tables[np.float16][view, index] - live).max() < 1e-2
        largest = max(largest, np.abs(live).max())
    assert largest > 5


def test_the_table_is_used_where_it_is_cheaper_and_the_choice_depends_on_the_run_alone(student):
    assert uses_table(replace(student, epochs=100), 50_000, 162, 100)
    assert not uses_table(replace(student, epochs=20), 50_000, 162, 100)
    assert uses_table(replace(student, epochs=1), 3000, 1, 10)
    assert not uses_table(replace(student, epochs=100), 1_281_167, 162, 1000)  # 415 TB


def test_the_teacher_answers_in_eval_mode_and_is_left_unchanged(tmp_path, teacher, student):
    train_run(teacher, runs_dir=tmp_path)
    before = weights(tmp_path, teacher)
    views = make_views(data.load("digits", "train", train_images=100), augment={"crop": 1})
    live = Teacher(replace(student, epochs=1), views, 10, seen="data", runs_dir=tmp_path, stop=never)
    assert live.table is None and not live.model.training
    index, view = np.arange(8), np.zeros(8, int)
    x = views.batch(torch.from_numpy(index), torch.from_numpy(view))
    assert torch.equal(live.logits(index, view, x), live.logits(index, view, x))
    assert not live.logits(index, view, x).requires_grad
    assert weights(tmp_path, teacher) == before


def test_the_teacher_answers_alike_from_its_table_and_live(tmp_path, teacher, student):
    train_run(teacher, runs_dir=tmp_path)
    views = make_views(data.load("digits", "train", train_images=100), augment={"crop": 1})
    told = Teacher(replace(student, epochs=5), views, 10, seen="data", runs_dir=tmp_path, stop=never)
    process.through(told.fill())
    assert np.array(told.table).shape == (9, 100, 10) and table_path(tmp_path, student, "data").is_dir()
    rng = np.random.default_rng(0)
    index, view = rng.integers(100, size=32), rng.integers(9, size=32)
    x = views.batch(torch.from_numpy(index), torch.from_numpy(view))
    with torch.no_grad():
        live = told.model(x)
    assert torch.allclose(told.logits(index, view, x), live, atol=1e-5)
    assert told.logits(index, view, x).dtype == torch.float32


def plain_loop(run, images, labels, teacher, model, steps):
    """Distillation as anyone would write it: one image at a time, live teacher, Hinton's loss, SGD by hand."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float32)
    mean, std = images.mean(axis=(0, 2, 3), keepdims=True), images.std(axis=(0, 2, 3), keepdims=True).clip(min=1)
    momenta, taken = [torch.zeros_like(p) for p in model.parameters()], 0
    while taken < steps:
        order, views = epoch_plan(run, taken // 4, len(images), 9)
        for step in range(4):
            rows = order[32 * step : 32 * step + 32]
            crops = [
                padded[i, :, v // 3 : v // 3 + 8, v % 3 : v % 3 + 8] for i, v in zip(rows, views[rows], strict=True)
            ]
            x, y = torch.from_numpy(((np.stack(crops) - mean) / std).astype(np.float32)), torch.from_numpy(labels[rows])
            T, z = run.temperature, model(x)
            with torch.no_grad():
                soft = (teacher(x) / T).softmax(1)
            loss = -run.alpha * T**2 * (soft * (z / T).log_softmax(1)).sum(1).mean()
            loss = loss - (1 - run.alpha) * z.log_softmax(1)[range(len(y)), y].mean()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            rate = learning_rate(run, taken / 4)
            with torch.no_grad():
                for p, g, m in zip(model.parameters(), gradients, momenta, strict=True):
                    m.mul_(run.momentum).add_(g + run.weight_decay * p)
                    p.sub_(rate * m)
            taken += 1


def test_it_trains_as_a_plain_loop_does_on_the_same_stream_of_batches(tmp_path, teacher, student):
    """52 steps with everything that makes it fast (table, channels_last, tensor views), and with nothing of it."""
    run = replace(student, model="resnet8", epochs=13)
    train_run(teacher, runs_dir=tmp_path)
    train_run(run, runs_dir=tmp_path)
    fast = inference.load_model(tmp_path, run, classes=10, channels=3, image_size=8)
    seed = int(run.rng(loop.INIT).integers(2**63))
    start, slow = (models.seeded(lambda: models.build("resnet8", classes=10, image_size=8), seed) for _ in range(2))
    own = inference.load_model(tmp_path, teacher, classes=10, channels=3, image_size=8).eval()
    train = data.load("digits", "train", train_images=100)
    plain_loop(run, train.x, train.y, own, slow, 52)
    for weight, plain, before in zip(fast.parameters(), slow.parameters(), start.parameters(), strict=True):
        assert (weight - plain).abs().max() < 1e-4 < 1e-3 < (weight - before).abs().max()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "resnet8", "precision": "bf16", "augment": {"crop": 1, "flip": True}},
        {"optimizer": "adamw", "lr": 0.002},
        {"epochs": 5},  # few enough views for a table
    ],
    ids=["bf16 and batch statistics", "adamw", "table"],
)
def test_stopped_at_every_step_and_carried_to_another_folder_it_ends_with_the_same_bits(
    tmp_path, teacher, student, change
):
    run = replace(student, epochs=2) if "epochs" not in change else student
    run = replace(run, **change)
    train_run(teacher, runs_dir=tmp_path / "whole")
    (tmp_path / "0").mkdir()
    shutil.copytree(store.folder(tmp_path / "whole", teacher), store.folder(tmp_path / "0", teacher))
    train_run(run, runs_dir=tmp_path / "whole")
    stops = 0
    while store.state(tmp_path / f"{stops}", run) != "done":
        asked = iter([False, True])
        with contextlib.suppress(files.Stopped):
            train_run(run, runs_dir=tmp_path / f"{stops}", stop=lambda asked=asked: next(asked))
        if store.state(tmp_path / f"{stops}", run) != "done":
            (tmp_path / f"{stops}").rename(tmp_path / f"{stops + 1}")
            stops += 1
    assert stops >= 3 and weights(tmp_path / f"{stops}", run) == weights(tmp_path / "whole", run)


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import load as load_tensors
from kdlib.errors import StoreError
from kdlib.studies import load_profile
from tests.conftest import train_run
torch.set_num_threads(1)
run = load_profile(sys.argv[1]).study("tiny").runs()[0]
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
asked = iter([False, True])
try:
    train_run(run, runs_dir=Path(sys.argv[2]), stop=lambda: next(asked))
except StoreError as error:
    print("StoreError", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file size limit on this system")
def test_a_disk_too_full_for_a_checkpoint_is_an_error_and_the_one_before_goes_on(tmp_path, tiny_yaml, teacher):
    train_run(teacher, runs_dir=tmp_path / "whole")
    asked = iter([False] * 5 + [True])
    with pytest.raises(files.Stopped):
        train_run(teacher, runs_dir=tmp_path / "cut", stop=lambda: next(asked))
    checkpoint = store.partial(tmp_path / "cut", teacher) / "checkpoint"
    before = checkpoint.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(tiny_yaml), str(tmp_path / "cut")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith("StoreError cannot write") and "What stood there before is untouched" in out
    assert checkpoint.read_bytes() == before and list(checkpoint.parent.iterdir()) == [checkpoint]
    train_run(teacher, runs_dir=tmp_path / "cut")
    assert weights(tmp_path / "cut", teacher) == weights(tmp_path / "whole", teacher)


PREPARED = """
import resource, torch
from kdlib.training.process import prepare_process
prepare_process()
def step():
    return torch.ones(64, 2**18).mul(2).sum().item()
step(); step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(torch.get_num_threads(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_a_prepared_process_has_one_thread_and_keeps_its_memory_between_steps():
    """Each of five steps takes 128 MiB, 32,768 pages; without the preparation all of them are taken anew every time."""
    out = subprocess.run([sys.executable, "-c", PREPARED], capture_output=True, text=True, check=True).stdout
    threads, faults = map(int, out.split())
    assert threads == 1 and faults < 4 * 32_768


def test_distillation_moves_the_student_towards_its_teacher(tmp_path, runs):
    teacher = replace(runs["teacher", 0, None], epochs=15)
    nds = replace(runs["nds", 0, None], epochs=60)
    ds = replace(runs["ds", 0, 4.0], epochs=60, teacher=teacher)
    for run in (teacher, nds, ds):
        train_run(run, runs_dir=tmp_path)
    answers = {run.role: store.read(tmp_path, run)[0]["logits"].argmax(1) for run in (teacher, nds, ds)}
    assert (answers["ds"] == answers["teacher"]).mean() > (answers["nds"] == answers["teacher"]).mean()


def test_both_gradient_terms_are_logged_each_epoch(tmp_path, teacher, student):
    train_run(teacher, runs_dir=tmp_path)
    train_run(student, runs_dir=tmp_path)
    history = store.read(tmp_path, student)[1]["history"]
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert all(row["gradient_teacher"] > 0 and row["gradient_labels"] > 0 for row in history)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path, runs):
    run = replace(runs["nds", 0, None], lr=1e12)
    with pytest.raises(TrainingFailed, match="epoch 0, step [0-9]+"):
        train_run(run, runs_dir=tmp_path)
    assert store.state(tmp_path, run) == "failed" and "epoch 0, step" in store.failure(tmp_path, run)


def test_a_last_step_that_ruins_the_weights_is_a_failure_too(tmp_path, runs):
    run = replace(runs["nds", 0, None], lr=1e12, epochs=1, batch_size=100)  # one step, its loss is finite
    with pytest.raises(TrainingFailed, match=re.escape(str(run))):
        train_run(run, runs_dir=tmp_path)
    assert store.state(tmp_path, run) == "failed"


def test_bf16_is_what_the_run_declares(tmp_path, runs):
    run = runs["nds", 0, None]
    train_run(run, runs_dir=tmp_path)
    half = replace(run, precision="bf16")
    train_run(half, runs_dir=tmp_path)
    tensors = load_tensors(weights(tmp_path, half))
    assert all(t.dtype == torch.float32 for t in tensors.values() if t.is_floating_point())
    assert weights(tmp_path, half) != weights(tmp_path, run)


def test_weights_of_another_architecture_are_an_error(tmp_path, teacher):
    train_run(teacher, runs_dir=tmp_path)
    with pytest.raises(StoreError, match=teacher.model):
        inference.load_model(tmp_path, teacher, classes=11, channels=3, image_size=8)


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert process.choose_device("auto") == "cpu"
    with pytest.raises(InvalidInput, match="'cuda'"):
        process.choose_device("cuda")


@pytest.fixture
def judged(monkeypatch):
    """digits as a data set that keeps its best epoch: the first half of its test part is for validation."""
    changes = {"parts": ("train", "validation", "test"), "best_epoch": True}
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], **changes))

    def part(run, name):
        split = data.load("digits", "train" if name == "train" else "test", **run.data)
        rows = {"train": slice(None), "validation": slice(0, 700), "test": slice(700, None)}[name]
        features = np.arange(len(split.y))[:, None].astype(np.uint8)
        return replace(split, ids=split.ids[rows], x=split.x[rows], y=split.y[rows], features=features[rows])

    monkeypatch.setattr(loop, "_part", part)
    return part


def test_the_best_epoch_on_validation_is_kept_and_both_parts_are_stored(tmp_path, runs, judged):
    run = replace(runs["nds", 0, None], lr=0.1, epochs=6)  # so coarse that the last epoch is not the best
    train_run(run, runs_dir=tmp_path / "whole")
    arrays, provenance = store.read(tmp_path / "whole", run)
    by_epoch = [epoch["validation_accuracy"] for epoch in provenance["history"]]
    kept = (arrays["validation:logits"].argmax(axis=1) == arrays["validation:labels"]).mean()
    assert kept == pytest.approx(max(by_epoch)) and max(by_epoch) > by_epoch[-1]
    assert len(arrays["validation:sample_ids"]) == 700 and len(arrays["labels"]) == 997
    assert np.array_equal(arrays["validation:features"][:, 0], np.arange(700).astype(np.uint8))
    asked = iter(range(10**9))
    with pytest.raises(files.Stopped):
        train_run(run, runs_dir=tmp_path / "cut", stop=lambda: next(asked) >= 18)
    train_run(run, runs_dir=tmp_path / "cut")
    assert weights(tmp_path / "cut", run) == weights(tmp_path / "whole", run)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_samples_is_an_error(tmp_path, runs, monkeypatch, part):
    def emptied(run, wanted, read=loop._part):
        split = read(run, wanted)
        return replace(split, ids=split.ids[:0], x=split.x[:0], y=split.y[:0], groups={}) if wanted == part else split

    monkeypatch.setattr(loop, "_part", emptied)
    with pytest.raises(DataError, match=f"digits has no {part}"):
        train_run(runs["nds", 0, None], runs_dir=tmp_path)


def test_a_best_epoch_needs_a_validation_part(tmp_path, runs, judged, monkeypatch):
    def without(run, name):
        split = judged(run, name)
        none = slice(0, 0 if name == "validation" else None)
        return replace(split, ids=split.ids[none], x=split.x[none], y=split.y[none])

    monkeypatch.setattr(loop, "_part", without)
    with pytest.raises(DataError, match="digits"):
        train_run(runs["nds", 0, None], runs_dir=tmp_path)

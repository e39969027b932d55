"""Reading images: kdlib's `Images` beside the plain torchvision + PIL loader, on the same cores; CIFAR from its cache.

    python benchmarks/loading.py [--rounds 15] [--images 3000] [--out benchmarks/results]

Synthetic JPEGs of 178 x 218 pixels (CelebA's size, quality 90) become float32 batches of 64 x 64. The two take turns in
every round; the plain loader's worker processes are as many as there are cores and stay from round to round.
CIFAR is timed where KDLIB_DATA has it. Writes loading.csv (one row per measurement) and loading.json (the hardware).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts, here and in the plain loader's workers

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from run import environment  # noqa: E402
from torchvision import transforms  # noqa: E402

from kdlib import data, places  # noqa: E402
from kdlib.data.stream import Images  # noqa: E402

SIZE, BATCH = 64, 128
PLAIN, JPEGS = "torchvision + PIL", "178 x 218 JPEG to 64 px"
RESULTS = Path(__file__).parent / "results"


class Plain(torch.utils.data.Dataset):
    """Image files the way torchvision's own data sets read them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with open(self.paths[i], "rb") as file:
            return self.transform(Image.open(file).convert("RGB"))


def faces(folder: Path, n: int) -> list[Path]:
    """n smooth random color pictures of 178 x 218, about 9 KB each, as CelebA's."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:06d}.jpg" for i in range(n)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (14, 12, 3), np.uint8))
        coarse.resize((178, 218), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def plain_loader(paths: list[Path]) -> Callable[[], Iterator[torch.Tensor]]:
    loader = torch.utils.data.DataLoader(
        Plain(paths), batch_size=BATCH, num_workers=os.cpu_count() or 1, persistent_workers=True
    )
    return lambda: iter(loader)


def kdlib_loader(paths: list[Path]) -> Callable[[], Iterator[torch.Tensor]]:
    images = Images(paths, SIZE)
    batches = [(np.arange(i, min(i + BATCH, len(paths))), None) for i in range(0, len(paths), BATCH)]
    return lambda: (torch.from_numpy(x) / 255 for x in images.prefetched(batches))


def stream(paths: list[Path], rounds: int) -> Iterator[dict]:
    """One row per loader and round; a round before the first warms both up."""
    loaders = {PLAIN: plain_loader(paths), "kdlib": kdlib_loader(paths)}
    for turn in range(-1, rounds):
        for name, start in loaders.items():
            row = measured(JPEGS, name, turn, lambda start=start: sum(len(batch) for batch in start()))
            if turn >= 0:
                yield row


def cifar(rounds: int) -> Iterator[dict]:
    """Both parts of CIFAR-100 in memory, from the cache."""
    if not (places.data_dir() / "cifar100").is_dir():
        return
    for turn in range(-1, rounds):
        row = measured(
            "CIFAR-100 from its cache",
            "kdlib",
            turn,
            lambda: sum(len(data.load("cifar100", part).x.copy()) for part in ("train", "test")),
        )
        if turn >= 0:
            yield row


def measured(what: str, loader: str, turn: int, read: Callable[[], int]) -> dict:
    """Wall seconds, and CPU seconds of this process and its workers, which other processes hardly change."""
    began, cpu = time.perf_counter(), cpu_seconds()
    images = read()
    seconds = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}
    return {"what": what, "loader": loader, "round": turn, "images": images, **seconds}


def cpu_seconds() -> float:
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children()))


def span(values: pd.Series, unit: str = "") -> str:
    return f"{values.median():.2f}{unit} ({values.min():.2f} to {values.max():.2f})"


def table(rows: pd.DataFrame) -> str:
    """Medians and ranges over rounds; ratios are taken within a round."""
    lines = ["| what | loader | images | seconds | CPU seconds | images a second |", "|---|---|---:|---:|---:|---:|"]
    for (what, loader), part in rows.groupby(["what", "loader"], sort=False):
        n = part.images.iloc[0]
        cells = [
            what,
            loader,
            f"{n:,}",
            span(part.seconds),
            span(part.cpu_seconds),
            f"{n / part.seconds.median():,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    both = rows[rows.what == JPEGS].pivot(index="round", columns="loader", values=["seconds", "cpu_seconds"])
    wall, cpu = (span(both[column, PLAIN] / both[column, "kdlib"], "x") for column in ("seconds", "cpu_seconds"))
    return "\n".join(lines) + f"\n\nkdlib is {wall} as fast as {PLAIN}, {cpu} by CPU time.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results are written")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    about = environment()
    with tempfile.TemporaryDirectory() as folder:
        rows = pd.DataFrame([*stream(faces(Path(folder), args.images), args.rounds), *cifar(args.rounds)])
    rows.round(4).to_csv(args.out / "loading.csv", index=False)
    (args.out / "loading.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{about['processor']}, {about['cores']} cores, load before {about['load_before']}\n\n{table(rows)}")


if __name__ == "__main__":
    main()

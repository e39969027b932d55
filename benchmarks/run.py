"""Race kdlib's training loop against torchdistill's, and against itself without single levers. No part of the tests.

    python benchmarks/run.py             everything, about ten minutes on a quiet machine; writes benchmarks/results/
    python benchmarks/run.py --render    only write the table and the plot anew from what is in benchmarks/results/

results/measurements.csv  one row per contender and round
results/environment.json  hardware, versions, when
results/table.md, bench.png
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts, here and in the processes below

import pandas as pd  # noqa: E402
import report  # noqa: E402
from cases import CASES
from contenders import LEVERS, Contender  # noqa: E402
from race import race  # noqa: E402

RESULTS = Path(__file__).parent / "results"
PEERS = [Contender("torchdistill"), Contender("torchdistill", "bf16")]
OURS = [Contender(loop, precision) for loop in ("kdlib", "table") for precision in ("fp32", "bf16")]


def without(precision: str) -> list[Contender]:
    """kdlib with every lever, without each, and without all."""
    off = [(), *((name,) for name in LEVERS), tuple(LEVERS)]
    return [*(Contender("kdlib", precision, names) for names in off), Contender("table", precision)]


GROUPS = [  # name, case, contenders, share of the rounds
    ("pair", "a", PEERS + OURS, 1.4),
    ("pair", "b", PEERS + OURS, 0.6),
    ("pair", "b-plain", PEERS[:1] + OURS, 0.6),
    ("levers", "a", without("fp32"), 0.6),
    ("levers", "a", without("bf16"), 0.6),
    ("levers", "b", without("fp32"), 0.4),
    ("levers", "b", without("bf16"), 0.4),
    ("images", "a", [Contender("kdlib", "bf16", (), n) for n in (2_500, 10_000, 50_000)], 0.6),
]


def environment() -> dict[str, str | int]:
    """Where and with what this was measured."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in info.splitlines())}
    flags = fields.get("flags", "").split()
    packages = ("torch", "torchvision", "torchdistill", "numpy", "pillow")
    return {
        "processor": f"{fields.get('model name') or platform.processor()}, family {fields.get('cpu family', '?')}",
        "cores": os.cpu_count() or 1,
        "fast_bf16": " and ".join(flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags) or "none",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "load_before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(rounds: int) -> pd.DataFrame:
    rows = []
    for group, case, contenders, share in GROUPS:
        started = time.perf_counter()
        rows += [{"group": group, **row} for row in race(case, contenders, max(3, round(share * rounds)))]
        print(f"{group}: {CASES[case].title}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns of a contender, more or fewer by its cost (default 5)"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing, render what is there")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results are written")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.render:
        about = environment()
        measure(args.rounds).round(4).to_csv(args.out / "measurements.csv", index=False)
        (args.out / "environment.json").write_text(json.dumps(about, indent=1) + "\n")
    rows = pd.read_csv(args.out / "measurements.csv", keep_default_na=False)
    about = json.loads((args.out / "environment.json").read_text())
    (args.out / "table.md").write_text(report.markdown(rows, about))
    report.plot(rows, args.out / "bench.png")
    print((args.out / "table.md").read_text())


if __name__ == "__main__":
    main()

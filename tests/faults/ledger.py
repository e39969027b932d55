"""Counts what the attacks did. The slow run writes the counts to docs/faults.md; the quick one writes nothing."""

from collections import Counter
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/faults.md"
ATTACKS: dict[str, Counter] = {}
TOP = """# Attacked, and what came of it

Written by `make test-slow`. *Injected*: attacks made. *Found*: refused with an error of ours, or put right by the next
start. *Harmless*: what was read is exactly what was written, or is whole and checked. *Silent*: neither; must be 0.
*Lost*: a run that was whole and is not any more; must be 0, and is counted where processes are killed.

| attack | injected | found | harmless | silent | lost |
|---|---:|---:|---:|---:|---:|
"""


def injected(attack: str) -> Counter:
    """Count one attack; set "found" or "harmless" of the counter by 1 once that is known."""
    counter = ATTACKS.setdefault(attack, Counter())
    counter["injected"] += 1
    return counter


def page() -> str:
    return TOP + "".join(
        f"| {attack} | {n['injected']:,} | {n['found']:,} | {n['harmless']:,} | "
        f"{n['injected'] - n['found'] - n['harmless']:,} | {n['lost'] if n['killed'] else '–'} |\n"
        for attack, n in sorted(ATTACKS.items())
    )

"""Compare the tables of two folders, made before and after a change that should leave every result alone.

    python tools/compare_tables.py BEFORE AFTER [--columns mapping.yaml]

Both folders hold the same files. CSV and JSON files are compared by value, all others by name only.
Rows are matched by the columns without floats and stand in the same order; columns may stand in any order.
Whole numbers, text and verdicts are equal. Floats agree within 1e-9, absolute or relative. "1" is not "1.0".
A lost value fails, and so does a new one. Left out: the version "kdlib" in JSON, and "seconds" in summary.json.

The mapping says what may differ, by pattern of the old file name:

    fig1_*.csv: {old column: new column, new: [columns that may be new, or filled where they were empty]}
    board*: claims*    # renamed files; each * stands for the same text in both names

One line names each difference. Exit status: 0 nothing differs, 1 something does, 2 bad arguments.
"""

import argparse
import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

NEAR = 1e-9
WHOLE = re.compile(r"[-+]?\d+")
FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=e))(e[-+]?\d+)?|[-+]?inf(inity)?|nan", re.IGNORECASE)
NOTHING = ("", "null", None)  # an empty cell, JSON's null, a key that is not there


def agree(before: str, after: str, floats: bool) -> bool:
    """Whether two cells say the same. floats: both come from a column of floats."""
    if before == after:
        return True
    if not floats or (WHOLE.fullmatch(before) and WHOLE.fullmatch(after)):
        return False
    if not all(WHOLE.fullmatch(cell) or FLOAT.fullmatch(cell) for cell in (before, after)):
        return False
    a, b = float(before), float(after)
    return math.isclose(a, b, rel_tol=NEAR, abs_tol=NEAR) or (math.isnan(a) and math.isnan(b))


def line(where: str, before: str | None, after: str | None) -> str:
    kind = " (lost)" if after in NOTHING else " (new)" if before in NOTHING else ""
    return f"{where}: before {before!r}, after {after!r}{kind}"


def read_csv(path: Path, renamed: dict) -> tuple[list[str], list[dict]]:
    """The columns under their new names, and the rows as text."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    header = [renamed.get(name, name) for name in header]
    if len(set(header)) < len(header):
        raise ValueError("two columns have one name")
    return header, [dict(zip(header, row, strict=True)) for row in rows]


def pair(before: list[dict], after: list[dict], keys: list[str], cells: dict[str, bool]) -> dict[int, int]:
    """{row before: row after}: first rows that agree, then rows of one key, then rows that share half of their key."""

    def score(i: int, j: int) -> tuple[int, int]:
        shared = sum(before[i][name] == after[j][name] for name in keys)
        return shared, sum(agree(before[i][name], after[j][name], floats) for name, floats in cells.items())

    pairs, free = {}, list(range(len(after)))
    for key, same in ((len(keys), len(cells)), (len(keys), 0), (len(keys) / 2, 0)):
        for i in range(len(before)):
            if i not in pairs and free:
                (shared, agreeing), j = max(((score(i, j), j) for j in free), key=lambda found: found[0])
                if shared >= key and agreeing >= same:
                    pairs[i] = j
                    free.remove(j)
    return dict(sorted(pairs.items()))


def compare_csv(old: Path, new: Path, renamed: dict, allowed: list[str], seen: Counter) -> Iterator[str]:
    (columns, before), (columns_after, after) = read_csv(old, renamed), read_csv(new, {})
    yield from (f"column {name}: lost" for name in columns if name not in columns_after)
    yield from (f"column {name}: new" for name in columns_after if name not in [*columns, *allowed])
    both = [name for name in columns if name in columns_after]
    floats = {name: [any(FLOAT.fullmatch(row[name]) for row in rows) for rows in (before, after)] for name in both}
    keys = [name for name in both if not any(floats[name]) and name not in allowed]
    pairs = pair(before, after, keys, {name: all(floats[name]) for name in both})

    def label(number: int, row: dict) -> str:
        return f"row {number + 1} ({', '.join(row[name][:40] for name in keys if row[name])[:120]})"

    for i, row in enumerate(before):
        if i not in pairs:
            yield f"{label(i, row)}: lost"
            continue
        for name in both:
            a, b = row[name], after[pairs[i]][name]
            if not agree(a, b, all(floats[name])) and not (a == "" and name in allowed):
                yield line(f"{label(i, row)}: {name}", a, b)
    yield from (f"{label(j, row)}: new" for j, row in enumerate(after) if j not in pairs.values())
    moved = next((i for i, j in zip(pairs, sorted(pairs.values()), strict=True) if pairs[i] != j), None)
    if moved is not None:
        yield f"{label(moved, before[moved])}: rows in another order, this one is row {pairs[moved] + 1} after"
    seen.update(rows=len(pairs), values=len(pairs) * len(both))


def leaves(value, renamed: dict, path: str = "", key: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """(path, (last key, value as JSON)) of everything in a JSON value."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            name = renamed.get(name, name)
            yield from leaves(part, renamed, f"{path}.{name}".lstrip("."), name)
    elif isinstance(value, list) and value:
        for number, part in enumerate(value):
            yield from leaves(part, renamed, f"{path}[{number}]", key)
    else:
        yield path, (key, json.dumps(value, ensure_ascii=False))


def compare_json(old: Path, new: Path, renamed: dict, allowed: list[str], seen: Counter) -> Iterator[str]:
    before, after = (
        dict(leaves(json.loads(path.read_text("utf-8")), names)) for path, names in ((old, renamed), (new, {}))
    )
    for path in before | after:
        key, a, b = (before | after)[path][0], before.get(path, (0, None))[1], after.get(path, (0, None))[1]
        if path == "kdlib" or (key == "seconds" and old.name == "summary.json"):
            continue
        seen["values"] += 1
        same = None not in (a, b) and agree(a, b, bool(FLOAT.fullmatch(a) and FLOAT.fullmatch(b)))
        if not same and not (a in NOTHING and key in allowed):
            yield line(path, a, b)


def read_mapping(path: Path | None) -> dict:
    """{pattern: new file name, or {old column: new column, "new": [columns]}}; ValueError for anything else."""
    mapping = (yaml.safe_load(path.read_text("utf-8")) if path else None) or {}
    if not isinstance(mapping, dict):
        raise ValueError("it has to be {file pattern: {old column: new column}}")
    for pattern, names in mapping.items():
        columns = {"": names} if isinstance(names, str) else names if isinstance(names, dict) else {"": None}
        if not all(isinstance(new, str) or (old == "new" and isinstance(new, list)) for old, new in columns.items()):
            raise ValueError(f"{pattern!r} needs a new file name, or {{old column: new column}}")
    return mapping


def new_name(file: str, mapping: dict) -> str:
    for pattern, name in mapping.items():
        found = isinstance(name, str) and re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), file)
        if found:
            for part in found.groups():
                name = name.replace("*", part, 1)
            return name
    return file


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)]


def compare(before: Path, after: Path, mapping: dict, seen: Counter) -> Iterator[str]:
    """Each difference in a line; seen counts what was compared."""
    names = {file: new_name(file, mapping) for file in files(before)}
    there = set(files(after))
    yield from (f"{name}: new file" for name in sorted(there - set(names.values())))
    yield from (f"{name}: two files get this name" for name, n in Counter(names.values()).items() if n > 1)
    for file, name in names.items():
        if name not in there:
            yield f"{file}: lost file" + (f" (looked for {name})" if name != file else "")
            continue
        said = [m for pattern, m in mapping.items() if isinstance(m, dict) and fnmatchcase(file, pattern)]
        renamed = {old: new for m in said for old, new in m.items() if isinstance(new, str)}
        allowed = [column for m in said if isinstance(m.get("new"), list) for column in m["new"]]
        kind = Path(file).suffix
        seen[kind if kind in (".csv", ".json") else "other"] += 1
        try:
            how = {".csv": compare_csv, ".json": compare_json}.get(kind)
            if how:
                yield from (f"{file}: {text}" for text in how(before / file, after / name, renamed, allowed, seen))
        except (ValueError, csv.Error) as error:
            yield f"{file}: cannot be compared: {error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="folder of the tables before the change")
    parser.add_argument("after", type=Path, help="folder of the same tables after it")
    parser.add_argument("--columns", type=Path, metavar="mapping.yaml", help="names that have changed")
    given = parser.parse_args(arguments)
    for folder in (given.before, given.after):
        if not folder.is_dir() or not any(file.endswith(".csv") for file in files(folder)):
            parser.error(f"{folder} is no folder with CSV files")
    if given.before.resolve() == given.after.resolve():
        parser.error("the two folders are one and the same")
    try:
        mapping = read_mapping(given.columns)
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(f"{given.columns} cannot be used: {error}")
    seen, differences = Counter(), 0
    for text in compare(given.before, given.after, mapping, seen):
        print(text)
        differences += 1
    print(
        f"{seen['.csv']} CSV and {seen['.json']} JSON files compared by value, {seen['other']} by name: "
        f"{seen['rows']} rows, {seen['values']} values, {differences} difference{'s' * (differences != 1)}"
    )
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())

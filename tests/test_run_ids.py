"""Code never changes a run's id: every run of every profile in params/, with the id it has had from the start.

fixtures/run_ids.json   shared    {key: fields that many runs have in common}
                        runs      {id: key of the shared fields, and the run's own; the teacher by its address}
                        studies   {profile: {study: addresses of its runs, in order}}
An address is the first 16 digits of an id, as in the store.

`python -m tests.test_run_ids` adds new studies, and refuses to change one that is there. A study that leaves params/
stays in the file, since its runs are on somebody's disk. Where a study is changed on purpose, delete its line under
"studies" and add it anew; lines under "runs" stay for ever.
"""

import json
from pathlib import Path

import pytest

from kdlib.studies import Run, Study, load_profile

FIXTURE = Path(__file__).parent / "fixtures/run_ids.json"
PARAMS = Path(__file__).parents[1] / "params"
PROFILES = sorted(path.stem for path in PARAMS.glob("*.yaml"))
OWN = ("seed", "temperature", "teacher")  # fields that stand on a run's own line
ADD = "python -m tests.test_run_ids"


def read(path: Path = FIXTURE) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def studies_now(*profiles: str) -> dict[str, dict[str, Study]]:
    return {name: load_profile(PARAMS / f"{name}.yaml").studies for name in profiles}


def described(known: dict) -> dict[str, dict]:
    """{id: the run as `Run.to_dict` writes it}, put together from the file without the help of `Run`."""
    whole: dict[str, dict] = {}
    by_address: dict[str | None, dict | None] = {None: None}
    for run_id, line in known["runs"].items():  # a teacher stands before its students
        own = {**line, "teacher": by_address[line["teacher"]]}
        whole[run_id] = by_address[run_id[:16]] = known["shared"][own.pop("shared")] | own
    return whole


def differences(known: dict, studies: dict[str, dict[str, Study]]) -> list[str]:
    """What is wrong with these studies, in words; empty if each has exactly the runs that the file says."""
    wrong = []
    for profile, of_profile in studies.items():
        for name, study in of_profile.items():
            then, now = known["studies"].get(profile, {}).get(name), [run.id[:16] for run in study.runs()]
            if then is None:
                wrong.append(f"{profile}: study {name} is not in {FIXTURE.name} yet; add it by `{ADD}`")
            elif then != now:
                count = len(set(then) & set(now))
                wrong.append(
                    f"{profile}: study {name} has other runs than before, or in another order: {len(now)} runs, of "
                    f"which {count} are among the {len(then)} in {FIXTURE.name}"
                )
    return wrong


def add(known: dict, studies: dict[str, dict[str, Study]]) -> list[str]:
    """Write the studies that `known` lacks into it; their names. Raises ValueError if one that is there has changed."""
    changed = [text for text in differences(known, studies) if ADD not in text]
    if changed:
        raise ValueError(". ".join([*changed, "Give it another name, or see the head of this file"]))
    keys = {json.dumps(fields): key for key, fields in known["shared"].items()}
    names = []
    for profile, of_profile in studies.items():
        for name, study in of_profile.items():
            if name in known["studies"].setdefault(profile, {}):
                continue
            for run in study.runs():
                shared = {field: value for field, value in run.to_dict().items() if field not in OWN}
                key = keys.setdefault(json.dumps(shared), str(len(keys)))
                known["shared"].setdefault(key, shared)
                own = {"seed": run.seed, "temperature": run.temperature}
                teacher = run.teacher and run.teacher.id[:16]
                known["runs"].setdefault(run.id, {"shared": key, **own, "teacher": teacher})
            known["studies"][profile][name] = [run.id[:16] for run in study.runs()]
            names.append(f"{profile}: {name}")
    return names


def lines(value: dict, depth: int) -> str:
    """JSON with one entry per line down to this depth."""
    if depth == 0:
        return json.dumps(value)
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {lines(v, depth - 1)}" for key, v in value.items()) + "\n}"


def write(known: dict) -> None:
    parts = {"shared": 1, "runs": 1, "studies": 2}
    text = ",\n".join(f'"{part}": {lines(known[part], depth)}' for part, depth in parts.items())
    FIXTURE.write_text("{\n" + text + "\n}\n", encoding="utf-8")


def test_every_run_ever_described_keeps_its_id():
    """If this fails, every run on somebody's disk loses its address."""
    whole = described(read())
    rebuilt = {run_id: Run.from_dict(values) for run_id, values in whole.items()}
    other = [f"{run} was {run_id[:16]}, is {run.id[:16]}" for run_id, run in rebuilt.items() if run.id != run_id]
    assert len(whole) >= 1710
    assert not other, f"{len(other)} of {len(whole)} runs have another id, such as {other[0]}"


def test_every_run_ever_described_is_described_alike():
    whole = described(read())
    other = [run_id[:16] for run_id, values in whole.items() if Run.from_dict(values).to_dict() != values]
    assert not other, f"{len(other)} of {len(whole)} runs are described in other words, such as {other[0]}"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_study_has_the_runs_it_has_always_had(profile):
    wrong = differences(read(), studies_now(profile))
    assert not wrong, "\n".join(wrong)


def test_an_option_that_came_later_changes_no_run_that_was_there(tiny_yaml):
    """Of data sets that no profile of params/ has: runs of one's own images."""
    own = tiny_yaml.read_text().replace("digits", "own")
    addresses = []
    for options in ("{name: pets}", "{name: pets, train_images: 0}", "{name: pets, train_images: 50}"):
        tiny_yaml.write_text(own.replace("{train_images: 100}", options))
        addresses.append([run.id[:8] for run in load_profile(tiny_yaml).study("tiny").runs()])
    assert addresses[0] == addresses[1] != addresses[2]
    assert addresses[0][0] == "bf3939fa", "as before there was the option"


def test_a_new_study_is_asked_for_and_added_without_a_change_to_what_is_there(tiny):
    known, before = read(), read()
    studies = {"tiny": tiny.studies}
    assert differences(known, studies) == [f"tiny: study tiny is not in run_ids.json yet; add it by `{ADD}`"]
    assert add(known, studies) == ["tiny: tiny"] and add(known, studies) == []
    assert differences(known, studies) == []
    for part in ("shared", "runs", "studies"):
        assert list(known[part].items())[: len(before[part])] == list(before[part].items())
    assert len(known["runs"]) == len(before["runs"]) + 8 == len(described(known))
    assert described(known)[tiny.study("tiny").runs()[-1].id] == tiny.study("tiny").runs()[-1].to_dict()


def test_a_study_that_has_changed_is_never_written_over(tiny_yaml, tiny):
    known = {"shared": {}, "runs": {}, "studies": {}}
    add(known, {"tiny": tiny.studies})
    tiny_yaml.write_text(tiny_yaml.read_text().replace("seeds: 2", "seeds: 3"))
    with pytest.raises(ValueError, match="study tiny has other runs.*12 runs, of which 8 are among .*another name"):
        add(known, {"tiny": load_profile(tiny_yaml).studies})
    assert len(known["runs"]) == 8


if __name__ == "__main__":
    file = read() if FIXTURE.exists() else {"shared": {}, "runs": {}, "studies": {}}
    new = add(file, studies_now(*PROFILES))
    write(file)
    print("\n".join(new) or "there is no new study")

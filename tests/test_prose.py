"""Every sentence on results, in README.md and docs/results.md, says what the released tables say."""

import re
from pathlib import Path

import pandas as pd

from kdlib.predictions.collect import collect
from kdlib.studies import load_profile

ROOT = Path(__file__).resolve().parents[1]
README, TEXT = (
    re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8")) for page in ("README.md", "docs/results.md")
)


def read(name, profile="real-small"):
    return pd.read_csv(ROOT / f"figures/{profile}/{name}.csv")


def says(sentence, text=TEXT):
    assert sentence in text, f"the tables say: {sentence}"


def found(name, metric, model="ds"):
    rows = read(name)
    return rows[(rows["metric"] == metric) & (rows["model"] == model)].set_index("temperature")["mean"]


def minus(text):
    return text.replace("-", "−")


def change(name, against, profile="real-small"):
    """'+3.3 (1.8 to 4.9)': DPD of DS less that of the other arm, two groups, from the joint intervals."""
    study, feature = name
    rows = read(f"fig{5 if study == 'hatexplain' else 4}_{study}_{feature}_joint", profile)
    (row,) = rows[(rows["metric"] == "dpd") & (rows["against"] == against)].to_dict("records")
    levels = read(f"fig{5 if study == 'hatexplain' else 4}_{study}_{feature}", profile)
    nds = levels[(levels["metric"] == "dpd") & (levels["model"] == against)]["mean"].item()
    ds = levels[(levels["metric"] == "dpd") & (levels["temperature"] == 10)]["mean"].item()
    sign = 1 if (ds - nds) * row["mean"] > 0 else -1  # the gap may be of either sign, DPD is its size
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return minus(f"{100 * sign * row['mean']:+.1f} ({100 * low:.1f} to {100 * high:.1f})")


def pairs(feature, against):
    """'1 in 10': pairs of groups of UTKFace whose change is told from 0."""
    rows = read(f"fig4_utkface_{feature}_joint")
    rows = rows[(rows["metric"] == "dpd") & (rows["against"] == against)]
    return f"{((rows['low'] > 0) | (rows['high'] < 0)).sum()} in {len(rows)}"


def claim(number, study):
    rows = read("claims_by_study")
    return rows[(rows["claim"] == number) & (rows["studies"] == study)].iloc[0]


def test_cifar100():
    counts, band = found("fig8_cifar100", "n_significant_sc"), read("fig8_cifar100").query("metric == 'null_band'")
    says(f"CIFAR-100: {counts.min():.0f} to {counts.max():.0f} of 100 classes differ between NDS and DS.")
    beyond = read("beyond_sensitivity_cifar100_beyond_accuracy").query("against == 'nds'")
    shift = beyond[beyond["normalise"] == "ratio"]["expected"]
    says(
        f"Chance alone gives {band['low'].min():.0f} to {band['high'].max():.0f}, a shift that moves the log "
        f"odds of all classes alike {shift.min():.0f} to {shift.max():.0f}, and what is left is above 0 at every T"
    )
    assert (beyond["low"] > 0).all() and set(beyond["normalise"]) == {"ratio", "logit"}
    trend = claim(2, "cifar100")
    rise = re.search(r"a change of (.+?) \((.+?)\)", trend["sentence"]).groups()
    says(
        f"rises from {counts[2]:.0f} at T = 2 to {counts[10]:.0f} at T = 10 (change {rise[0]}, {rise[1]}; tau "
        f"{trend['value']:.2f}, p = {trend['p']:.3f}), more than a shift gives"
    )
    assert "not explained" in trend["sentence"] and trend["verdict"] == "reproduced"
    tau, p = re.search(r"arcsine scale tau is \+([\d.]+) \(p = ([\d.]+)\)", trend["sentence"]).groups()
    says(f"on the arcsine scale tau is {tau} (p = {p})")
    slope = found("fig8_cifar100_without_counts", "slope")
    says(f"students move {slope[2]:.2f} of the way to their teacher's class profile at T = 2 and {slope[10]:.2f} at T")


def test_cifar10():
    counts, of_teacher = (found("table06_cifar10", f"n_significant_{c}") for c in ("sc", "tc"))
    band = read("table06_cifar10").query("metric == 'null_band'")["high"].max()
    assert (counts.max(), band) == (1, 2)
    says("at most one of ten classes differs between NDS and DS at any T, where chance alone gives up to two;")
    power = re.search(r"in ([\d.]+) % of simulated studies for #SC", claim(4, "cifar10")["sentence"]).group(1)
    says(f"had two classes moved, only {power} % of such studies would show it")
    beyond = read("beyond_sensitivity_cifar10_beyond_accuracy").query("against == 'teacher'")
    ds, nds = beyond[beyond["model"] == "ds"], beyond[beyond["model"] == "nds"]
    ratio, logit = (ds[ds["normalise"] == scale] for scale in ("ratio", "logit"))
    assert of_teacher.tolist() == ratio["count"].tolist() and (ratio["answer"] == "undecided").all()
    says(
        f"Between teacher and DS {ratio['count'].min():.0f} or {ratio['count'].max():.0f} differ on the paper's scale, "
        f"where a shift alone gives about {ratio['expected'].mean():.0f}, so that scale cannot"
    )
    assert logit["expected"].max() < 1 and (logit["answer"] == "not explained").all()
    says(
        f"On the logit scale {logit['count'].min():.0f} or {logit['count'].max():.0f} do, where a shift gives less than"
    )
    alone = nds[nds["normalise"] == "logit"]["count"].item()
    says(f"Teacher and NDS already differ on {alone:.0f} there")


def around(row):
    low, high = 100 * row["low"], 100 * row["high"]
    return minus(f"{100 * row['value']:+.1f} ({low:.1f} to {high:.1f})").removeprefix("+" if row["value"] < 0 else "")


def test_disagreement():
    seen = {"CIFAR-100": "cifar100", "HateXplain": "hatexplain", "CIFAR-10": "cifar10", "UTKFace": "utkface"}
    rows = {name: claim(7, study) for name, study in seen.items()}
    assert all(row["verdict"] == "reproduced" for row in rows.values())
    says(f"in points: {', '.join(f'{name} {around(row)}' for name, row in rows.items())};")
    smiling, eyeglasses = (claim(7, f"celeba64-{label}") for label in ("smiling", "eyeglasses"))
    assert {smiling["verdict"], eyeglasses["verdict"]} == {"inconclusive"}
    says(f"not told from chance on CelebA, smiling {around(smiling)} and eyeglasses {around(eyeglasses)}.")
    accuracy, apart = read("claims_forest").sort_values("claim").to_dict("records")
    assert apart["data_sets"] == accuracy["data_sets"] == 5 and apart["high"] > 0
    says(f"Pooled over five data sets it is {around(apart)}, not told from 0; accuracy, pooled, {around(accuracy)}")


FACES = {("celeba64-smiling", f): "smiling" for f in ("young", "male")}
FACES |= {("celeba64-eyeglasses", f): "eyeglasses" for f in ("young", "male")}


def test_faces():
    trends = read("claims_by_study").query("claim == 8 and studies != 'hatexplain'")
    assert set(trends["verdict"]) == {"inconclusive"} and len(trends) == 3
    says("Faces: no trend of EOD and DPD with T is shown by Young or by race;")
    a, b, c, d = (change(name, "teacher") for name in FACES)
    says(f"of its own teacher: smiling by Young {a}, by Male {b}; eyeglasses by Young {c}, by Male {d}: above")
    says(
        f"of the pairs of groups by race {pairs('race', 'teacher')} differs from the teacher and of those by age "
        f"{pairs('age', 'teacher')}"
    )
    a, b, c, d = (change(name, "nds") for name in FACES)
    says(
        f"smiling by Young {a}, by Male {b}; eyeglasses by Young {c}, by Male {d}; "
        f"UTKFace by race {pairs('race', 'nds')}"
    )
    says(f"pairs, by age {pairs('age', 'nds')}.")


def test_the_likest_and_the_unlikest_face_study():
    below = found("fig4_utkface_race", "dpd", "nds").item() - found("fig4_utkface_race", "dpd")
    says(f"(mean DPD of DS {100 * below.min():.1f} to {100 * below.max():.1f} points below NDS)")
    above = found("fig4_celeba64-smiling_male", "dpd") - found("fig4_celeba64-smiling_male", "dpd", "nds").item()
    assert above.min() > 0
    says(f"DS lies above NDS at every T, by {100 * above.min():.1f} to {100 * above.max():.1f} points")


def test_hatexplain():
    texts = []
    for feature in ("gender", "race"):
        name = f"fig5_hatexplain_{feature}"
        values = pd.concat([found(name, "dpd", model) for model in ("teacher", "nds", "ds")])
        label = read(name).query("metric == 'label_dpd'")["mean"].iloc[0]
        texts.append((f"{100 * values.min():.1f} to {100 * values.max():.1f} %", f"{100 * label:.1f} %"))
    (gender, of_labels), (race, of_race) = texts
    says(f"by gender, teacher and students have a DPD of {gender} where the labels have {of_labels}; by race, {race}")
    says(f"have {of_race}: a small DPD is not closeness to the labels.")
    a, b = (change(("hatexplain", feature), "teacher") for feature in ("gender", "race"))
    says(f"DS less its teacher at T = 10: by gender {a}, by race {b}")


def points(row):
    """'−10.3 (−11.2 to −9.4) points', every number with its sign."""
    value, low, high = (minus(f"{100 * row[name]:+.1f}") for name in ("value", "low", "high"))
    return f"{value} ({low} to {high}) points"


def test_first_finding_of_the_readme():
    rows = read("claims_by_study").query("claim == 7")
    assert set(rows["verdict"]) == {"reproduced", "inconclusive"}
    seen = (rows["verdict"] == "reproduced").sum()
    pool = read("claims_forest").set_index("claim").loc[7]
    says(
        f"disagrees with its teacher less often than the same network trained on labels alone, in {seen} of "
        f"{len(rows)} studies: {points(claim(7, 'cifar100'))} on CIFAR-100, {points(claim(7, 'utkface'))} on UTKFace; "
        f"pooled over {pool['data_sets']:.0f} data sets (CelebA once) {points(pool)}. On CIFAR-100 its accuracy is "
        f"higher: {points(claim(1, 'cifar100'))}.",
        README,
    )
    assert claim(7, "cifar100")["high"] < 0 and claim(7, "utkface")["high"] < 0 and claim(1, "cifar100")["low"] > 0


def test_second_finding_of_the_readme():
    counts, band = found("fig8_cifar100", "n_significant_sc"), read("fig8_cifar100").query("metric == 'null_band'")
    assert counts.min() > band["high"].max()
    says(f"On CIFAR-100, {counts.min():.0f} to {counts.max():.0f} of 100 classes differ between the two", README)
    says(f"where chance gives {band['low'].min():.0f} to {band['high'].max():.0f}.", README)
    trend = claim(2, "cifar100")
    says(
        f"here from {counts[2]:.0f} classes at T = 2 to {counts[10]:.0f} at T = 10, is a trend on the paper's scale of "
        f"accuracy (p = {trend['p']:.3f} over {trend['n_temperatures']} temperatures) and none on another",
        README,
    )
    assert trend["verdict"] == "reproduced" and claim(3, "cifar100")["verdict"] == "inconclusive"
    p = re.search(r"arcsine scale tau is \+[\d.]+ \(p = ([\d.]+)\)", trend["sentence"])[1]
    assert float(p) > 0.05
    says(f"none on another (arcsine, p = {p})", README)
    says(f"On CIFAR-10 at most {found('table06_cifar10', 'n_significant_sc').max():.0f} of 10 classes differs", README)


def test_third_finding_of_the_readme():
    rows = read("claims_by_study").query("claim == 8")
    assert set(rows["verdict"]) == {"inconclusive"}
    says(f"is not told from chance in {len(rows)} of {len(rows)} studies;", README)
    smiling, faces = (claim(8, study) for study in ("celeba64-smiling", "utkface"))
    each = [[minus(f"{100 * row[name]:+.2f}") for name in ("value", "low", "high")] for row in (smiling, faces)]
    (a, b, c), (d, e, f) = each
    says(f"changes EOD by {a} ({b} to {c}) points (CelebA, smiling) and {d} ({e} to {f}) points (UTKFace)", README)
    assert claim(9, "celeba64-eyeglasses")["verdict"] == "not reproduced"
    size, low, high = re.match(
        r"(.+?) \((.+?) to (.+?)\)", change(("celeba64-eyeglasses", "young"), "teacher")
    ).groups()
    says(f"the student's DPD by Young is larger than its teacher's: {size} (+{low} to +{high}) points.", README)


def test_nothing_of_the_paper_is_judged():
    assert set(read("claims")["verdict"]) == {"not run"}
    says('none has been trained, so the verdict on each of its twelve claims is "not run"')
    says("whose own studies need GPUs and are not trained yet", README)


def test_the_story_says_what_the_tables_say():
    story = re.sub(r"\s+", " ", (ROOT / "docs/summary.md").read_text(encoding="utf-8"))
    counts = found("fig8_cifar100", "n_significant_sc")
    assert counts.min() / 100 >= 0.2
    says("can differ on a fifth of its classes", story)
    trends = [claim(number, "cifar100") for number in (2, 3)]
    assert [row["verdict"] for row in trends] == ["reproduced", "inconclusive"]
    says("The first trend is in our runs, on the paper's scale; on another scale, just as reasonable, it is not", story)
    slope = found("fig8_cifar100_without_counts", "slope")
    assert (slope > 0).all() and slope.idxmin() >= 10
    says("students move towards their teacher's class profile at every temperature, and least at high ones", story)
    rows = read("claims_by_study")
    assert set(rows[rows["claim"].isin((8, 11)) & (rows["verdict"] != "not run")]["verdict"]) == {"inconclusive"}
    says(
        "We see no such trend, neither for smiling nor for eyeglasses. For eyeglasses the distilled student ends", story
    )
    ten = read("table06_cifar10")
    band = ten.query("metric == 'null_band'")["high"].max()
    assert found("table06_cifar10", "n_significant_sc").max() <= band
    says("On CIFAR-10 our counts of #SC lie inside it, and so do the paper's own", story)


def test_the_fourth_finding_and_what_held_on_new_seeds():
    rows = read("claims_by_study", "confirm")
    by = {(row["claim"], str(row["studies"]).removesuffix("-confirm")): row for row in rows.to_dict("records")}
    seen = {"reproduced": "seen", "not reproduced": "opposite", "inconclusive": "not told from chance"}
    for key, words in {
        (1, "cifar100"): "accuracy of DS − NDS",
        (7, "cifar100"): "disagreement with the teacher",
        (1, "utkface"): "accuracy of DS − NDS",
        (7, "utkface"): "disagreement with the teacher",
        (9, "utkface"): "DPD less the teacher's",
        (1, "celeba64-eyeglasses"): "accuracy of DS − NDS",
        (7, "celeba64-eyeglasses"): "disagreement with the teacher",
        (9, "celeba64-eyeglasses"): "DPD less the teacher's",
    }.items():
        says(f"{words} {points(by[key])} ({seen[by[key]['verdict']]})", README)
    counts = by[2, "cifar100"]
    says(f"Kendall's tau of #SC and T {counts['value']:.2f} ({seen[counts['verdict']]})", README)
    assert [by[n, s]["verdict"] for s in ("cifar100", "utkface") for n in (1, 7)] == ["reproduced"] * 4
    assert [by[n, "celeba64-eyeglasses"]["verdict"] for n in (1, 7)] == ["inconclusive", "reproduced"]
    assert (claim(1, "celeba64-eyeglasses")["verdict"], claim(7, "celeba64-eyeglasses")["verdict"]) == (
        "inconclusive",
    ) * 2
    first, last, rise, around = re.match(
        r"#SC is (\d+) of 100 classes at T = 2 and (\d+) at T = 10, a change of (.+?) \((.+?)\);", counts["sentence"]
    ).groups()
    says(f"{first} classes at T = 2, {last} at T = 10 ({rise}, {around}).")
    slope = re.search(r"class profile by (.+? \(.+?\)),", counts["sentence"])[1]
    says(f"less at high T: by {slope} for each doubling of T.")
    pairs = re.search(r"(\d+) of (\d+) pairs of groups differ", by[9, "utkface"]["sentence"]).groups()
    says(f"{pairs[0]} of {pairs[1]} pairs of races differ")
    assert by[9, "celeba64-eyeglasses"]["verdict"] == by[9, "utkface"]["verdict"] == "not reproduced"
    young, male = (change(("celeba64-eyeglasses-confirm", g), "teacher", "confirm") for g in ("young", "male"))
    says(f"by Young {young}, by Male {male}. On UTKFace")


def test_what_goes_beyond_the_confirmed_study():
    rows = read("beyond_t_squared", "confirm")
    rows = rows.assign(value=rows["mean"] * 100, low=rows["low"] * 100, high=rows["high"] * 100)

    def arm(with_t2, model):
        return rows[(rows["t_squared"] == with_t2) & (rows["model"] == model) & (rows["metric"] == "accuracy")]

    def told(row):
        return f"{row.value:.1f} % ({row.low:.1f} to {row.high:.1f})"

    ours, without = arm(True, "ds"), arm(False, "ds")
    (nds,), (control,) = arm(True, "nds").itertuples(), arm(False, "nds loss x0.2").itertuples()
    says(f"DS is again above NDS at every T: {ours.value.min():.1f} % or more against {told(nds)}", TEXT)
    *_, last = ours.itertuples()
    says(f"It does not come back at T = 40: {told(last)}", TEXT)
    assert ours.low.min() > nds.high
    counts = rows[(rows["metric"] == "n_significant_sc") & rows["t_squared"]]["mean"]
    says(f"#SC lies between {counts.min():.0f} and {counts.max():.0f}", TEXT)
    band = rows[(rows["metric"] == "null_band") & rows["t_squared"]]["high"] / 100  # as a count again
    assert counts.min() > band.max() and counts.iloc[-1] == counts.max()  # as the notebook says
    says(", ".join(f"{told(row)} at T = {row.temperature:g}" for row in without.itertuples()), TEXT)
    says(f"their limit, has {told(control)}", TEXT)


def test_trifeature():
    shape, texture = (read(f"fig4_trifeature-{label}-64_color", "trifeature") for label in ("shape", "texture"))

    def accuracy(rows, model):
        rows = rows[(rows["metric"] == "accuracy") & (rows["model"] == model)].set_index("temperature")
        return 100 * rows[["mean", "low", "high"]]

    (nds,), (teacher,) = accuracy(shape, "nds").itertuples(), accuracy(shape, "teacher").itertuples()
    ds = accuracy(shape, "ds")["mean"]
    says(f"NDS is right on {nds.mean:.1f} % ({nds.low:.1f} to {nds.high:.1f}), DS on {ds[1]:.1f} % at T = 1")
    says(f"and on {ds[40]:.1f} % at T = 40; its teachers have {teacher.mean:.1f} %")
    runs = collect(
        load_profile("trifeature").study("trifeature-shape-64"), released=ROOT / "figures/trifeature/predictions"
    )
    says(f"but one of the five has {100 * runs.arm(model='teacher').accuracy.min():.1f} %")
    ds, (nds,) = accuracy(texture, "ds")["mean"], accuracy(texture, "nds")["mean"]
    says(f"On texture DS has {ds.min():.1f} to {ds.max():.1f} % and NDS {nds:.1f} %")
    by = read("claims_by_study", "trifeature").set_index(["claim", "studies"])
    of_shape, of_texture = by.xs("trifeature-shape-64", level=1), by.xs("trifeature-texture-64", level=1)
    assert of_shape["verdict"][1] == "not reproduced" and of_texture["verdict"][1] == "inconclusive"
    seen = of_texture.loc[11]
    assert seen["verdict"] == "reproduced"
    assert "reproduced" not in (of_shape["verdict"][11], claim(11, "hatexplain")["verdict"])
    value, most, least = (-100 * seen[name] for name in ("value", "low", "high"))
    says(f"by {value:.1f} points ({least:.1f} to {most:.1f}) for each doubling of T")
    calibrated = re.search(r"scaling of every model it is −([\d.]+) \(−([\d.]+) to −([\d.]+)\)", seen["sentence"])
    most, high, low = map(float, calibrated.groups())
    says(f"once every model is calibrated ({most:.1f}, {low:.1f} to {high:.1f})")
    assert (by.loc[9]["verdict"] == "not reproduced").all()  # larger on both
    grows, beyond = of_shape["sentence"][8].split("Beyond what the same errors give in a model that does not react")
    eod, dpd = re.findall(r"by ([+−]\d\S+) \(", grows)
    (left, around), (left_of_dpd, around_of_dpd) = re.findall(r"by ([+−]\d\S+) \((.+?)\)", beyond)
    says(f"of {eod} points of EOD by color for each doubling of T, {left} ({around}) are more")
    says(f"of {dpd} points of DPD {left_of_dpd} ({around_of_dpd})")

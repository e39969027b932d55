"""What an artefact needs of the studies that it shows (groups, seeds, certain data), asked before training."""

from __future__ import annotations

from kdlib.catalogue import ARTEFACTS, DATASETS
from kdlib.errors import DataError
from kdlib.studies import Profile, Study


def lacking(artefact: str, profile: Profile) -> list[str]:
    """What a profile's studies lack for an artefact, a line each, with file and study; empty if it can be shown.

    Reads one's own data to know their groups; where that cannot be read, training says so. Raises ProfileError for an
    artefact that the profile does not have.
    """
    studies, place = profile.studies_for(artefact), f"{profile.path}: artefacts.{artefact}"
    known = ARTEFACTS[artefact]
    if profile.own and (known.of_paper or not studies):
        return [f"{place}: it is about the paper, and studies of your own say nothing of it. Leave it out."]
    lines = []
    for study in studies:
        if known.datasets and study.dataset not in known.datasets:
            shows = " or ".join(known.datasets)
            lines.append(f"{place}: it shows {shows}, and study {study.name!r} is of {study.dataset}. Leave it out.")
        elif known.groups and not _has_groups(study):
            lines.append(f"{place}: it compares groups, and the data of study {study.name!r} have none. Give some.")
        elif len(study.temperatures) < known.temperatures:
            lines.append(f"{place}: it needs {known.temperatures} temperatures, and study {study.name!r} has fewer.")
        elif study.seeds < known.seeds:
            lines.append(
                f"{place}: it compares seeds, and study {study.name!r} has {study.seeds}. Take {known.seeds} or more."
            )
    return lines


def _has_groups(study: Study) -> bool:
    if study.dataset != "own":
        return bool(DATASETS[study.dataset].groups)
    from kdlib import data

    try:
        return bool(data.load("own", "test", **study.data).groups)
    except DataError:
        return True

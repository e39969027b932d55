"""What a notebook works with: its artefact, profile, studies and folders, from its four parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdlib import places
from kdlib.catalogue import ARTEFACTS
from kdlib.errors import ProfileError, unknown
from kdlib.paper.stand_in import stand_in_reasons
from kdlib.predictions import released
from kdlib.studies import Profile, Study, load_profile
from kdlib.training import sweep

PARAMETERS = ("profile", "runs_dir", "out_dir", "device")


@dataclass(frozen=True)
class Workspace:
    """What a notebook works with. studies: those its artefact shows; device 'none' trains nothing."""

    artefact: str
    title: str
    profile: Profile
    studies: list[Study]
    runs_dir: Path
    out_dir: Path
    device: str

    @property
    def released(self) -> Path:
        """Where the profile's released predictions are."""
        return places.figures_dir(self.profile.name) / "predictions"

    @property
    def to_train(self) -> list[Study]:
        """The studies without released predictions; the others are shown from these."""
        return [study for study in self.studies if not released.path_of(self.released, study).is_file()]

    @property
    def notice(self) -> str:
        """For each study, whether it is the paper's own or a stand-in, and why."""
        return "\n".join(f"{study.title}: {standing(study)}" for study in self.studies)


def workspace(
    artefact: str, *, profile: str | Path, runs_dir: str | Path = "", out_dir: str | Path = "", device: str = "auto"
) -> Workspace:
    """Check a notebook's parameters and find its studies and folders.

    Empty folders mean the defaults: runs/ and figures/<profile>/ of the project.
    Raises ProfileError for an unknown profile or artefact, InvalidInput for an unknown device.
    """
    if artefact not in ARTEFACTS:
        raise unknown("artefact", artefact, ARTEFACTS, error=ProfileError)
    if device not in sweep.DEVICES:
        raise unknown("device", device, sweep.DEVICES)
    read = load_profile(profile)
    return Workspace(
        artefact,
        ARTEFACTS[artefact].title,
        read,
        read.studies_for(artefact),
        places.runs_dir(runs_dir),
        places.figures_dir(read.name, out_dir),
        device,
    )


def standing(study: Study) -> str:
    """'the paper's study', or 'stand-in: ' and every reason."""
    reasons = stand_in_reasons(study)
    return f"stand-in: {'; '.join(reasons)}" if reasons else "the paper's study"


def _brief_standing(study: Study) -> str:
    """The same in one reason, for a line of the summary."""
    reasons = stand_in_reasons(study)
    more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return f"stand-in ({reasons[0]}{more})" if reasons else "the paper's study"

"""Where measurements go is known to be writable before anything is measured."""

from pathlib import Path

import pytest

from det_distill.bench.benchmark import benchmark
from det_distill.bench.growth import growth
from det_distill.bench.peers import contest
from det_distill.bench.record import opened


def test_folders_are_made_and_a_record_stays_until_there_is_another(tmp_path: Path):
    file = opened(str(tmp_path / "new/er/times.json"))
    file.write_text("[1]")
    assert opened(str(file)).read_text() == "[1]"


@pytest.mark.parametrize(
    "measured",
    [
        lambda place: benchmark(["no.py"], out=place),
        lambda place: contest("no.py", "no.py", out=place),
        lambda place: growth("no.py", folder=str(Path(place, "times.json"))),
    ],
    ids=["benchmark", "contest", "growth"],
)
def test_what_cannot_be_written_is_told_before_a_config_is_read(measured, tmp_path: Path):
    (tmp_path / "times.json").write_text("[1]")
    with pytest.raises((IsADirectoryError, FileExistsError), match=tmp_path.name):
        measured(str(tmp_path))

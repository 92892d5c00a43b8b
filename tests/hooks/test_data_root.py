"""Images outside the data root stop a run of stock data sets, however they are wrapped."""

import json

import pytest
from mmengine.runner import Runner

import tiny


@pytest.fixture
def data(tmp_path):
    return tiny.write_dataset(tmp_path / "data")


def config(folder, data, wrap=lambda dataset: dataset):
    cfg = tiny.run_config(data, folder / "run", tiny.faster_rcnn(), train_cfg=dict(max_epochs=1))
    cfg.train_dataloader.dataset = wrap(cfg.train_dataloader.dataset)
    cfg.custom_hooks = [dict(type="DataRootHook")]
    return cfg


WRAPPED = {
    "plain": lambda dataset: dataset,
    "repeated": lambda dataset: dict(type="RepeatDataset", times=2, dataset=dataset),
    "joined": lambda dataset: dict(type="ConcatDataset", datasets=[dataset, dataset]),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_name_that_climbs_out_stops_the_run_before_its_first_step(tmp_path, data, wrap):
    content = json.loads((data / "all.json").read_text())
    content["images"][3]["file_name"] = "../../secret.png"
    (data / "all.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"all\.json: image '.*\.\./\.\./secret\.png' leads out of .*data"):
        Runner.from_cfg(config(tmp_path, data, wrap)).train()
    assert not (tmp_path / "run/epoch_1.pth").exists()


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_sound_data_set_trains(tmp_path, data, wrap):
    Runner.from_cfg(config(tmp_path, data, wrap)).train()
    assert (tmp_path / "run/epoch_1.pth").exists()

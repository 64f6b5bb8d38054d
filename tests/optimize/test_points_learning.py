"""Training of the network for points: it goes on where it stopped, and mistakes are told."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.confs.errors import ConfError
from isolux.confs.points_learning import PointsLearningConf
from isolux.confs.read import read_points_learning
from isolux.geometry.points.learned import inference
from isolux.geometry.points.learned.network import Network
from isolux.optimize.points_learning import held_out_errors, train_network
from isolux.optimize.points_measured import measured


def quiet(text: str, share: float) -> None:
    """Says nothing."""


def stop_at(share: float) -> object:
    def tell(text: str, done: float) -> None:
        if done >= share:
            raise KeyboardInterrupt

    return tell


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PointsLearningConf:
    conf = PointsLearningConf(
        out=tmp_path_factory.mktemp("whole"),
        clouds=2,
        held_out=1,
        points=(600, 700),
        steps=4,
        checkpoint_every=2,
        learning_rate=1e-2,
    )
    train_network(conf, False, quiet)
    return conf


def arrays(path: Path) -> dict[str, bytes]:
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


def test_a_stopped_training_goes_on_bit_for_bit(
    trained: PointsLearningConf, tmp_path: Path
) -> None:
    shutil.copytree(trained.out / "clouds", tmp_path / "clouds")
    conf = trained.model_copy(update={"out": tmp_path})
    with pytest.raises(KeyboardInterrupt):
        train_network(conf, False, stop_at(0.7))  # type: ignore[arg-type]
    path = train_network(conf, True, quiet)
    assert arrays(path) == arrays(trained.out / "network.npz")


def test_training_changes_the_network(trained: PointsLearningConf) -> None:
    found = inference.load(trained.out / "network.npz")
    assert np.abs(found["leave.weight"]).max() > 0
    assert (trained.out / "progress.jsonl").read_text().count("\n") == 4


def test_a_finished_training_is_not_overwritten(trained: PointsLearningConf) -> None:
    with pytest.raises(FileExistsError, match="--resume"):
        train_network(trained, False, quiet)


def test_a_network_that_changes_nothing_has_the_plain_errors(
    trained: PointsLearningConf,
) -> None:
    (row,) = held_out_errors(trained, Network(), [0])
    assert row["learned_value"] == pytest.approx(row["plain_value"], rel=1e-3)
    assert row["learned_slope"] == pytest.approx(row["plain_slope"], rel=1e-3)


def test_the_test_compares_meshes(trained: PointsLearningConf, tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    torch.manual_seed(0)
    np.savez(path, **{k: v.numpy() for k, v in Network().state_dict().items()})
    conf = trained.model_copy(update={"network": path})
    result = measured(conf, quiet)
    for mode in ("on", "auto"):
        assert result[f"{mode}_ratio"]["chamfer_l1"] == pytest.approx(1, rel=1e-3)
    assert result["off"]["chamfer_l1"] < 0.05
    assert 0.5 < result["off"]["normal_consistency"] <= 1


def test_a_file_that_is_no_network_is_told(tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"network\.npz: is no network"):
        inference.load(path)
    np.savez(path, other=np.zeros(1))
    with pytest.raises(ValueError, match="is no network"):
        inference.load(path)


def test_settings_are_checked() -> None:
    assert read_points_learning(["steps=7", "points=600,800"]).points == (600, 800)
    with pytest.raises(ConfError, match="the least, then the most"):
        read_points_learning(["points=800,600"])
    with pytest.raises(ConfError, match="no such setting"):
        read_points_learning(["step=7"])

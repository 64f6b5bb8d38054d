"""The settings of training the network of `hierarchy`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from isolux.confs.record import AtLeastOne, Count, Fraction, Positive, Record

__all__ = ["PointsLearningConf"]

Few = Annotated[int, Field(ge=500, le=1_000_000)]


class PointsLearningConf(Record):
    """Clouds of random shapes, and how the network is trained on them."""

    out: Path = Field(Path("out/points_learning"), description="folder of clouds and results")
    clouds: AtLeastOne = Field(180, description="to train on, two of each shape")
    held_out: AtLeastOne = Field(24, description="clouds of other shapes, to measure on")
    points: tuple[Few, Few] = Field(
        (1500, 4000), description="of a cloud: least, most; every third has three times as many"
    )
    steps: AtLeastOne = Field(2200, description="each is one cloud, from coarse to fine")
    learning_rate: Positive = Field(2e-3, description="of Adam, falls to a fiftieth")
    jitter: Fraction = Field(0.4, description="share of steps with weights that are changed")
    checkpoint_every: AtLeastOne = Field(100, description="steps")
    network: Path | None = Field(
        None, description="that is tested, a network.npz; none takes the one that ships"
    )
    seed: Count = Field(1, description="of shapes, clouds and the order of steps")

    @model_validator(mode="after")
    def _least_and_most(self) -> "PointsLearningConf":
        if self.points[0] > self.points[1]:
            raise ValueError(f"points: the least, then the most; got {self.points}")
        return self

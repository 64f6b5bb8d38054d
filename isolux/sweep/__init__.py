"""Many scenes x settings: each trial a training of its own, here, on Ray or on SLURM."""

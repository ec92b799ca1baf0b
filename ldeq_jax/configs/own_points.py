"""Points of your own, learned from a few hundred pictures: faces-68-tiny, trained on.

    ldeq build faces/mine --manual_dir=FOLDER --schema=points.json --data_dir=DATA
    ldeq train --config=own_points --workdir=runs/mine --config.data.data_dir=DATA

docs/own_points.md goes through it step by step. Training is that of ibug_300w_video, on stills,
with a loss that keeps heatmaps sharp, as video needs it. Each point begins as the landmark of
faces-68-tiny that is nearest to it. (faces-68 can be trained on in the same way, in three times the
time: --config.train.start_from=faces-68 --config.model.base_width=64
--config.model.injection_width=96.)

Cost: two to seven minutes on two CPU cores, as busy as they are. Figure: NME 2.39 % on the 30 test
faces of the page, 12 points, from 240 pictures of drawn heads; 13.1 % from random weights.
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import ibug_300w_video


def get_config() -> Config:
    """The run."""
    return ibug_300w_video.get_config().with_values(
        {
            "data.name": "faces/mine",
            "data.train_split": "train",
            "data.eval_split": "validation",
            "data.batch_size": 16,
            "train.start_from": "faces-68-tiny",
            "train.num_steps": 400,
            "train.eval_every": 100,
            "train.checkpoint_every": 100,
            "optimizer.learning_rate": 1e-3,
            "optimizer.warmup_steps": 50,
            "optimizer.ema_decay": 0.98,
        }
    )

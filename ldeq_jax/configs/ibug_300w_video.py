"""The model of ibug_300w_small with sharp heatmaps, for video; trained on pictures alone.

    ldeq train --config=ibug_300w_video --workdir=runs/video --config.data.data_dir=DATA

It starts from the pretrained model faces-68-tiny. With a loss on the coordinates alone, heatmaps
are broad and have several peaks. When such a heatmap is moved with a face from frame to frame, the
border of the crop cuts its tails, which shifts the landmark. This config adds a loss on the spread
of the heatmaps.

Cost: 25 minutes on two CPU cores. Figure: NME 3.33 % on the 554 faces of test_common, cropped
around their landmarks, starting from the result of ibug_300w_small; on video see docs/results.md.
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import ibug_300w_small


def get_config() -> Config:
    """The run."""
    return ibug_300w_small.get_config().with_values(
        {
            "train.start_from": "faces-68-tiny",
            "train.num_steps": 3000,
            "train.spread_weight": 0.2,
            "optimizer.learning_rate": 1e-3,
        }
    )

"""A third of the pretrained model faces-68: clips of stills that turn, speak and blink.

    ldeq build ibug_300w --manual_dir=IBUG_FOLDERS --data_dir=DATA
    ldeq build moving_faces/takes --manual_dir=DATA/ibug_300w/1.0.0 --data_dir=DATA
    ldeq train --config=faces_68 --workdir=runs/faces --config.data.data_dir=DATA \
        --config.data.also=faces/turned:train:.1,faces/wild:train:.2

Each face becomes a clip of 5 crops: three of five from a take in which the face acts, the others
from the still. Crops are turned and displaced farther than in ibug_300w_moving, as detectors do.
`data.also` adds faces of other collections, with landmarks of iBUG or of WFLW; without it, the
config trains on 300-W alone. ldeq_jax/pretrained/faces-68/README.md has the exact commands.

Cost: about 1 s a step on two CPU cores, after half an hour or an hour for the takes. It was not run
to its end: 600 of these steps, and two shorter runs, gave NME 3.39 % on test_common.
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import ibug_300w_moving


def get_config() -> Config:
    """The run."""
    return ibug_300w_moving.get_config().with_values(
        {
            "clip.takes": "moving_faces/takes",
            "clip.take_probability": 0.6,
            "clip.num_frames": 5,
            "clip.jitter": 0.04,
            "data.batch_size": 12,
            "augment.translate": 0.09,
            "augment.scale": 0.2,
            "augment.rotate": 40.0,
            "optimizer.learning_rate": 8e-4,
            "train.num_steps": 3000,
        }
    )

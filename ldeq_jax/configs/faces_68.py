"""The second half of the pretrained model faces-68: clips of stills that turn, speak and blink.

    ldeq build moving_faces/takes --manual_dir=DATA/ibug_300w/1.0.0 --data_dir=DATA
    ldeq train --config=faces_68 --workdir=runs/faces --config.data.data_dir=DATA \
        --config.train.start_from=runs/base \
        --config.data.also=faces/turned:train:.08,faces/wild:train:.1

It goes on from `faces_68_base`, or, as it stands, from the pretrained model itself. Each face
becomes a clip of 4 crops: three of five from a take in which the face acts, the others from the
still. In three of four clips the state of each frame is passed to the next. `data.also` adds faces
of other collections; without it, the config trains on 300-W alone.
ldeq_jax/pretrained/faces-68/README.md has the exact commands.

Cost: minutes on one GPU, with 16 cores to load the faces, after half an hour for the takes.
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import faces_68_base


def get_config() -> Config:
    """The run."""
    return faces_68_base.get_config().with_values(
        {
            "train.start_from": "faces-68",
            "train.num_steps": 3000,
            "train.carry": 0.75,
            # With faces that act, a small price on flicker no longer damps expressions.
            "train.flicker_loss": "log",
            "train.flicker_weight": 0.005,
            "clip.num_frames": 4,
            "clip.pan": 0.03,
            "clip.turn": 2.0,
            "clip.zoom": 0.015,
            "clip.jitter": 0.04,
            "clip.bend": 0.04,
            "clip.bend_probability": 0.8,
            "clip.bad_probability": 0.3,
            "clip.takes": "moving_faces/takes",
            "clip.take_probability": 0.6,
            "data.batch_size": 64,
            "rwr.fusion": "geometric",
            "optimizer.learning_rate": 1.2e-3,
            "optimizer.warmup_steps": 150,
        }
    )

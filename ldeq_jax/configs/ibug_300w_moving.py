"""The model of ibug_300w_video, trained on clips made from stills, as it will be used on video.

    ldeq train --config=ibug_300w_moving --workdir=runs/moving --config.data.data_dir=DATA

It starts from the pretrained model faces-68-tiny. Each face becomes a clip of 6 crops with motion,
jitter, noise, blur, bad frames, occluders and exact labels. In three of four clips the state of
each frame is passed to the next; in the others every frame is solved alone. No video is used. There
is no price on flicker: one makes frames steadier, but also damps expressions (docs/results.md).

Cost: 1,900 steps of 10 clips, 20 minutes on two CPU cores. Figure: NME 3.38 % on the 554 faces of
test_common, starting from the result of ibug_300w_video.
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import ibug_300w_video


def get_config() -> Config:
    """The run."""
    return ibug_300w_video.get_config().with_values(
        {
            "train.start_from": "faces-68-tiny",
            "train.num_steps": 1900,
            "train.eval_every": 200,
            "train.checkpoint_every": 200,
            "train.carry": 0.75,
            "train.follows": (0.7, 1.0),
            "clip.num_frames": 6,
            "clip.pan": 0.03,
            "clip.turn": 2.0,
            "clip.zoom": 0.015,
            "clip.bend": 0.04,
            "clip.bend_probability": 0.8,
            "clip.bad_probability": 0.3,
            "data.batch_size": 10,
            "rwr.fusion": "geometric",
            "optimizer.learning_rate": 6e-4,
            "optimizer.warmup_steps": 100,
            "optimizer.ema_decay": 0.995,
        }
    )

"""The 68 FGNET points, learned from stills alone and meant for the Talking Face video.

    ldeq build faces/fgnet --manual_dir=FGNET --data_dir=DATA --schema=fgnet_68 \
        --person='^[0-9]+' --validation_share=.07 --test_share=.07
    ldeq train --config=fgnet --workdir=runs/fgnet --config.data.data_dir=DATA
    ldeq evaluate --checkpoint=runs/fgnet --dataset=faces/fgnet --split=test \
        --data_dir=DATA --output=runs/fgnet/test

FGNET holds images/NNNaAA.jpg and landmarks.npz of the FG-NET ageing pictures, 1,002 faces of 82
people (datasets/faces/README.md); six people each are kept for validation and test. People labelled
these stills and the Talking Face video by one scheme, so the video's error counts all 68 points as
they are.

The run starts from faces-68-tiny, which has seen labels of another scheme, 300-W's, and no video
either. Each landmark begins as the nearest of those. (The figure is of a run that took them in
their order, from an error of 35 %, which was 5.2 % on the validation faces after 250 steps.)
Training is that of ibug_300w_moving: clips of 4 crops made from each still, with the carried state.

Cost: that of ibug_300w_moving for 2,000 steps. Figure: NME 2.49 % on the 79 test faces, cropped
around their landmarks, and 3.85 % on the Talking Face with each frame alone (docs/results.md).
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import ibug_300w_video


def get_config() -> Config:
    """The run."""
    return ibug_300w_video.get_config().with_values(
        {
            "data.name": "faces/fgnet",
            "data.train_split": "train",
            "data.eval_split": "validation",
            "data.batch_size": 16,
            "clip.num_frames": 4,
            "train.start_from": "faces-68-tiny",
            "train.num_steps": 2000,
            "train.flicker_weight": 2.0,
            "train.eval_every": 200,
            "train.checkpoint_every": 200,
            "rwr.fusion": "geometric",
            "optimizer.learning_rate": 1e-3,
            "optimizer.ema_decay": 0.995,
        }
    )

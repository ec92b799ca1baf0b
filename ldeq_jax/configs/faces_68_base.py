"""The first half of the pretrained model faces-68: stills, of 300-W and of other collections.

    ldeq build ibug_300w --manual_dir=IBUG_FOLDERS --data_dir=DATA
    ldeq train --config=faces_68_base --workdir=runs/base --config.data.data_dir=DATA \
        --config.data.also=faces/turned:train:.12,faces/wild:train:.12

It is twice as wide as ibug_300w_small, and its stem three times, which costs three times the
arithmetic. Crops are turned, displaced, covered and compressed farther; one in sixteen shows no
face, and its heatmaps are to be broad. The spread of a heatmap grows with the error of its
landmark, so that it tells how certain a landmark is. `data.also` adds other collections;
ldeq_jax/pretrained/faces-68/README.md has the exact commands.

Cost: minutes on one GPU, with 16 cores to load the faces. `faces_68` goes on from it.
"""

from ldeq_jax.config import Config
from ldeq_jax.configs import ibug_300w_small


def get_config() -> Config:
    """The run."""
    return ibug_300w_small.get_config().with_values(
        {
            "model.injection_width": 96,
            "model.base_width": 64,
            "data.batch_size": 256,
            "augment.translate": 0.09,
            "augment.scale": 0.2,
            "augment.rotate": 40.0,
            "augment.blur": 0.02,
            "augment.occlude": 0.5,
            "augment.occlude_probability": 0.4,
            "augment.brightness_probability": 0.4,
            "augment.contrast": 0.4,
            "augment.contrast_probability": 0.4,
            "augment.color_probability": 0.4,
            "augment.grayscale_probability": 0.1,
            "augment.jpeg_quality": 15,
            "augment.jpeg_probability": 0.3,
            "augment.empty_probability": 0.06,
            "train.spread_weight": 0.01,
            "train.spread_growth": 1.5,
            "train.empty_weight": 0.01,
            "train.num_steps": 4000,
            "optimizer.learning_rate": 3e-3,
            "optimizer.warmup_steps": 300,
        }
    )

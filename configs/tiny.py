"""A toy LDEQ at 64 pixels on cartoon faces, to try everything out; part of `make demo`.

    python datasets/sample_faces.py --output=demo/sample
    python datasets/build.py ibug_300w --manual_dir=demo/sample --data_dir=demo/data
    python train.py --config=configs/tiny.py --workdir=demo/run --config.data.data_dir=demo/data

Cost: a minute on two CPU cores; it has 0.17 M parameters. Figure: NME 4.8 % on the 40 test faces
after 400 steps. It means nothing for real faces.
"""

import ml_collections

from ldeq_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """The run."""
    config = default_config()

    data = config.data
    data.name = "ibug_300w"
    data.eval_split = "test_common"
    data.crop = "landmarks"
    data.crop_scale = 1.3
    data.batch_size = 16

    model = config.model
    model.image_size = 64
    model.injection_width = model.base_width = 24
    model.width_increment = 8
    model.depth = 3
    model.residual_kernel = 3
    model.stem_norm = "group"
    model.forward.method = model.backward.method = "picard"
    model.gradient = "one_step"

    augment = config.augment
    augment.scale_probability = 0.5

    optimizer = config.optimizer
    optimizer.learning_rate = 4e-3
    optimizer.warmup_steps = 50
    optimizer.decay = "cosine"
    optimizer.clip = "norm"
    optimizer.ema_decay = 0.98

    train = config.train
    train.num_steps = 400
    train.min_budget = 1
    train.spread_weight = 0.2
    train.eval_every = train.checkpoint_every = 100
    return config

"""A toy LDEQ at 64 pixels on drawn faces, to try everything out; part of `make demo`.

    ldeq build sample_faces --output=demo/sample
    ldeq build ibug_300w --manual_dir=demo/sample --data_dir=demo/data
    ldeq train --config=tiny --workdir=demo/run --config.data.data_dir=demo/data

Cost: a minute on two CPU cores; it has 0.17 M parameters. Figure: NME 4.8 % on the 40 test faces
after 400 steps. It means nothing for real faces.
"""

from ldeq_jax.config import Config


def get_config() -> Config:
    """The run."""
    return Config().with_values(
        {
            "data.name": "ibug_300w",
            "data.eval_split": "test_common",
            "data.crop": "landmarks",
            "data.crop_scale": 1.3,
            "data.batch_size": 16,
            "model.image_size": 64,
            "model.injection_width": 24,
            "model.base_width": 24,
            "model.width_increment": 8,
            "model.depth": 3,
            "model.residual_kernel": 3,
            "model.stem_norm": "group",
            "model.forward.method": "picard",
            "model.backward.method": "picard",
            "model.gradient": "one_step",
            "augment.scale_probability": 0.5,
            "optimizer.learning_rate": 4e-3,
            "optimizer.warmup_steps": 50,
            "optimizer.decay": "cosine",
            "optimizer.clip": "norm",
            "optimizer.ema_decay": 0.98,
            "train.num_steps": 400,
            "train.min_budget": 1,
            "train.spread_weight": 0.2,
            "train.eval_every": 100,
            "train.checkpoint_every": 100,
        }
    )

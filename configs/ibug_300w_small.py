"""Small."""
import ml_collections
from ldeq_jax.config import default_config

def get_config() -> ml_collections.ConfigDict:
    c = default_config()
    c.data.name = "ibug_300w"
    c.data.train_split = "train"
    c.data.eval_split = "test_common"
    c.data.crop = "landmarks"
    c.data.crop_scale = 1.3
    c.data.batch_size = 32
    m = c.model
    m.image_size = 128
    m.injection_width = m.base_width = 32
    m.width_increment = 16
    m.residual_kernel = 3
    m.stem_norm = "group"
    m.gradient = "one_step"
    m.forward.method = m.backward.method = "picard"
    m.forward.max_steps = 5
    c.augment.scale = 0.2
    c.augment.scale_probability = 0.5
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 2e-3
    c.optimizer.warmup_steps = 100
    c.optimizer.decay = "cosine"
    c.optimizer.weight_decay = 1e-4
    c.optimizer.clip = "norm"
    c.optimizer.ema_decay = 0.995
    c.train.num_steps = 2000
    return c

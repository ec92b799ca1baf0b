"""The training input with a PyTorch DataLoader and albumentations: the same augmentation."""

from collections.abc import Iterator

import albumentations as A
import cv2
import numpy as np
import torch

from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import labelled_crop


def torch_batches(config: DataConfig, augment: AugmentConfig, size: int) -> Iterator:
    """Batches of augmented crops (B, size, size, 3) and points (B, K, 2), endless."""
    faces = _Faces(config, augment, size)
    loader = torch.utils.data.DataLoader(
        faces,
        batch_size=config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )
    while True:
        yield from loader


class _Faces(torch.utils.data.Dataset):
    def __init__(self, config, augment, size):
        self.source = FaceSource(config.name, config.train_split, config.data_dir)
        self.config, self.size = config, size
        a = augment
        self.change = A.Compose(
            [
                A.Affine(
                    translate_percent={axis: (-a.translate, a.translate) for axis in "xy"},
                    p=a.translate_probability,
                ),
                A.HorizontalFlip(p=a.flip_probability),
                A.Affine(rotate=(-a.rotate, a.rotate), p=a.rotate_probability),
                A.GaussianBlur(
                    blur_limit=0, sigma_limit=(0.1, a.blur * size), p=a.blur_probability
                ),
                A.CoarseDropout(
                    num_holes_range=(1, 1),
                    hole_height_range=(0.01, a.occlude),
                    hole_width_range=(0.01, a.occlude),
                    fill="random_uniform",
                    p=a.occlude_probability,
                ),
            ],
            keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
        )

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        face = self.source[index]
        crop = labelled_crop(
            self.config.crop,
            self.config.crop_scale,
            self.size,
            shape=face["image"].shape,
            box=face["box"],
            landmarks=face["landmarks"],
        )
        image = geometry.warp(face["image"], crop, self.size)
        points = geometry.transform_points(crop, face["landmarks"])
        varied = self.change(image=image, keypoints=points)
        return varied["image"], np.asarray(varied["keypoints"], np.float32) / self.size

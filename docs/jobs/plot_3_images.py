"""
Large images without copies
===========================

Sixteen images of 8 MB are sharpened. With ``zero_copy=True`` they are read-only views of shared memory in the
workers, and so are the results here.
"""

# %%
# Make blurred images of stars.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

from thread_chunks import ChunkExecutor

random = np.random.default_rng(1)


def make_image():
    stars = np.zeros((1000, 1000))
    stars[random.integers(0, 1000, 300), random.integers(0, 1000, 300)] = random.exponential(100, 300)
    return gaussian_filter(stars, 3) + random.normal(0, 0.02, stars.shape)


images = [make_image() for _ in range(16)]

# %%
# Richardson-Lucy deconvolution: some filters and products for each step. It makes new arrays, and never writes
# to its input.


def sharpen(image, steps=10):
    observed = np.clip(image, 1e-3, None)
    estimate = np.full_like(observed, observed.mean())
    for _ in range(steps):
        estimate = estimate * gaussian_filter(observed / gaussian_filter(estimate, 3), 3)
    return estimate


with ChunkExecutor(2, zero_copy=True) as executor:
    sharpened = list(executor.map(sharpen, images, buffersize=4))
    print(executor.report())

# %%
# What came back is a view of shared memory, too.

print(f"{len(sharpened)} images, writable: {sharpened[0].flags.writeable}")

figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
for axis, image, title in zip(axes, (images[0], sharpened[0]), ("observed", "sharpened"), strict=True):
    axis.imshow(image[300:500, 300:500], vmin=0, vmax=2, cmap="magma")
    axis.set_title(title)
    axis.axis("off")
figure.tight_layout()

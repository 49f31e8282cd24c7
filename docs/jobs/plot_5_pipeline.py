"""
Two steps, joined by references
===============================

The first step makes arrays, the second reduces them. With ``results="refs"`` the arrays stay where they were
made, and only references and small results come to the driver.
"""

# %%
# The first step: a random walk in the plane for many particles, 8 MB each.

import matplotlib.pyplot as plt
import numpy as np

from thread_chunks import ChunkExecutor, call_seed


def walk(drift, particles=500, steps=1000):
    random = np.random.default_rng(call_seed())
    moves = random.normal(size=(steps, particles, 2))
    moves[..., 0] += drift
    return moves.cumsum(axis=0)


# %%
# The second step: the mean square distance from the start, at each time. A reference that is an argument
# arrives as its value.


def mean_square(paths):
    return (paths**2).sum(axis=2).mean(axis=1)


drifts = [0, 0.02, 0.05, 0.1]
with ChunkExecutor(2) as executor:
    paths = executor.map(walk, drifts, results="refs", seed=1)
    curves = list(executor.map(mean_square, paths))
print(f"{sum(curve.nbytes for curve in curves) / 1e3:.0f} kB came here, of {len(drifts) * 8} MB")

# %%
# Without drift the distance grows with the time, with drift with its square.

for drift, curve in zip(drifts, curves, strict=True):
    plt.loglog(np.arange(1, 1001), curve, label=f"drift {drift}")
plt.xlabel("steps")
plt.ylabel("mean square distance")
plt.legend()
plt.tight_layout()

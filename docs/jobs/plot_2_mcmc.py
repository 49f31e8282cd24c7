"""
MCMC with emcee
===============

A line is fitted to points, six of which are far off. emcee asks for many likelihoods at a time, and takes anything
with a ``map`` as its pool: the executor.
"""

# %%
# The model: a point belongs to the line, or, with probability ``q``, to a broad background.

import emcee
import matplotlib.pyplot as plt
import numpy as np

from thread_chunks import ChunkExecutor

random = np.random.default_rng(1)
x = np.sort(random.uniform(0, 10, 60))
y = 0.8 * x + 1.5 + random.normal(0, 0.4, 60)
y[42:60:3] += random.normal(10, 3, 6)  # the outliers


def log_posterior(parameters):
    slope, offset, q = parameters
    if not 0 < q < 1:
        return -np.inf
    residual = y - slope * x - offset
    line = np.exp(-0.5 * (residual / 0.4) ** 2) / 0.4
    background = np.exp(-0.5 * (residual / 5) ** 2) / 5
    return float(np.log((1 - q) * line + q * background).sum())


# %%
# ``x`` and ``y`` are globals of this script: the workers get them with the function, once.

walkers = np.array([1, 1, 0.2]) + 0.05 * random.normal(size=(16, 3))
with ChunkExecutor(2) as executor:
    sampler = emcee.EnsembleSampler(16, 3, log_posterior, pool=executor)
    sampler.random_state = np.random.RandomState(1).get_state()
    sampler.run_mcmc(walkers, 400)
chain = sampler.get_chain(discard=200, flat=True)
print("slope, offset, share of outliers:", chain.mean(axis=0).round(2))

# %%
# Draws from the posterior, and a fit by least squares, which the outliers mislead.

plt.plot(x, y, "k.")
for slope, offset, _ in chain[random.choice(len(chain), 50)]:
    plt.plot(x, slope * x + offset, color="tab:blue", alpha=0.1)
plt.plot(x, np.polyval(np.polyfit(x, y, 1), x), "--", color="tab:orange", label="least squares")
plt.plot([], [], color="tab:blue", label="posterior")
plt.xlabel("x")
plt.ylabel("y")
plt.legend()
plt.tight_layout()

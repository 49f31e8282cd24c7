"""
A sweep that is killed and resumed
==================================

Percolation: a grid of sites, each open with probability ``p``. Is there a way from the top to the bottom? A
sweep over ``p`` finds where that changes. Half-way through, the program is killed with SIGKILL.
"""

# %%
# The program is a file of its own, as it would be on a cluster's batch system.

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import numpy as np
from scipy.ndimage import label
from thread_chunks import ChunkExecutor, call_seed

def spans(p, size=200, grids=40):
    random = np.random.default_rng(call_seed())
    found = 0
    for _ in range(grids):
        clusters, _ = label(random.random((size, size)) < p)
        found += bool(np.intersect1d(clusters[0], clusters[-1])[1:].size)
    return found / grids

grid = [{"p": float(p), "size": size} for size in (25, 50, 200) for p in np.linspace(0.5, 0.7, 21)]
with ChunkExecutor(2) as executor:
    shares = list(executor.starmap(spans, grid, path="percolation.checkpoint", seed=1))
print(len(shares), "shares")
"""
folder = Path(tempfile.mkdtemp())
(folder / "percolation.py").write_text(PROGRAM)
start = [sys.executable, "percolation.py"]

# %%
# Start it, wait until a third of the values is in the file, and kill it.

from thread_chunks import Checkpoint

file = folder / "percolation.checkpoint"
with subprocess.Popen(start, cwd=folder) as program:
    while not (file.exists() and len(Checkpoint.load(file)) >= 21):
        time.sleep(0.05)
    os.kill(program.pid, signal.SIGKILL)

before = {tuple(arguments.values()) for arguments, _ in Checkpoint.load(file)}
print(f"killed with {len(before)} of 63 values in the file")

# %%
# Start it again. It computes what is missing.

print(subprocess.run(start, cwd=folder, capture_output=True, text=True, check=True).stdout)

# %%
# The checkpoint has the names of the arguments, so a table of it needs no further code. Filled circles were
# computed before the crash, empty ones after it.

import matplotlib.pyplot as plt

records = Checkpoint.load(file).to_records()
for size, colour in zip((25, 50, 200), ("tab:blue", "tab:orange", "tab:green"), strict=True):
    rows = [record for record in records if record["size"] == size]
    p, share = [row["p"] for row in rows], [row["output"] for row in rows]
    is_old = [(row["p"], row["size"]) in before for row in rows]
    plt.plot(p, share, color=colour, label=f"{size} by {size}")
    plt.scatter(p, share, edgecolors=colour, facecolors=[colour if old else "white" for old in is_old], zorder=3)
plt.axvline(0.5927, color="grey", linestyle=":", label="known threshold")
plt.xlabel("probability that a site is open")
plt.ylabel("share of grids with a way through")
plt.legend()
plt.tight_layout()

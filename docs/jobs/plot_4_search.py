"""
A search with scikit-learn
==========================

scikit-learn parallelises with joblib. With the package's backend its grid search runs on the executor: on all
cores here, on all nodes on a cluster.
"""

# %%
# Handwritten digits, and a support vector machine with two parameters.

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from thread_chunks import register_joblib

register_joblib()
digits = load_digits()
grid = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}

# %%
# Each of the 20 pairs is fitted three times: 60 calls.

with joblib.parallel_config(backend="thread_chunks", n_jobs=2):
    search = GridSearchCV(SVC(), grid, cv=3, refit=False).fit(digits.data, digits.target)
print(f"best: {search.best_params_}, {search.best_score_:.1%} right")

# %%
# The score of each pair.

scores = np.reshape(search.cv_results_["mean_test_score"], (4, 5))
plt.imshow(scores, vmin=0.9, cmap="viridis")
for (row, column), score in np.ndenumerate(scores):
    plt.text(column, row, f"{score:.1%}", ha="center", va="center", color="white" if score < 0.96 else "black")
plt.xticks(range(5), grid["gamma"])
plt.yticks(range(4), grid["C"])
plt.xlabel("gamma")
plt.ylabel("C")
plt.tight_layout()

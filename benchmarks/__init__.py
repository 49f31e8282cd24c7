"""Programs that measure the package, side by side with its peers, on real input."""

"""The nouns that the other rooms share: calls, functions, blocks, series."""

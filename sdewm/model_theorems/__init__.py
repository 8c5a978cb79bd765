"""The theorems on trained world models: errors, expansion, divergence, value bias, stability."""

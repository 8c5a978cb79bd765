"""The expansion of an expected loss in the size of an error in the coefficients."""

"""Recordings of other projects, one format a file, and their conversion to a dataset."""

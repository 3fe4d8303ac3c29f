"""Searches over hyper-parameters that take longer than a chapter may, with the results that chapters read."""

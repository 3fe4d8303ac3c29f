"""What the papers construct or predict, one construction or theory a module."""

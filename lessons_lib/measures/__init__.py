"""What the papers measure, one module a quantity."""

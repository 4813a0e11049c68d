"""What every stream promises, as checks."""

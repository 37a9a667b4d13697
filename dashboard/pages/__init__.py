"""The pages, as trees of Dash components built from view values."""

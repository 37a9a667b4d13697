"""Hardware profiles: one TOML file each, and the reader that checks them."""

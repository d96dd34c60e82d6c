"""What developers of verdiff run from a checkout; no part of the wheel."""

"""Files: paths, folders that are replaced whole or not at all, arrays and ids in them. Knows no model."""

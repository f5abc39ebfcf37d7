"""results.json: its one author, its keys and its format."""

"""What `recs new-plugin` writes: files whose `$name`s are filled in by `string.Template`. Every kind has those in `shared`."""

"""Tables from anywhere: files, data frames, Arrow columns and what they can be, ids and their codes."""

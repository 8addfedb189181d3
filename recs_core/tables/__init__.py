"""Tables from anywhere: files, data frames, CSV dialects, times, digests. Above the contract's columns and ids."""

"""Interactions beyond memory: a folder of codes, made out of core and opened as a memory map."""

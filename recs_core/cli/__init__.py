"""The command line, `recs`: one file per command or group of commands, registered in `main`."""

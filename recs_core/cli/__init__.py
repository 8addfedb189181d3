"""The command line, `recs`: one file a command or group of commands, registered in `main`."""

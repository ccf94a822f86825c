"""The `pagewarden` command: verbs are modules of `pagewarden_cli.verbs`, all work is done by `pagewarden`."""

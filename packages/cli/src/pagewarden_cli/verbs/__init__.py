"""One module per verb; each has a click command named `command` and imports its run when it is invoked."""

"""The package beside this file is installed by the tests, which run its own tests; they are not collected here."""

collect_ignore = ["pagewarden-example"]

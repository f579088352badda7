"""The command line. Everything but ``up`` goes through the client, so that a script and a person
meet the same rules."""

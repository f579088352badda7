"""The platform port's contract, held against every driver."""

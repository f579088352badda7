"""A DR machine: durable step runner, link to the control server, platform drivers."""

"""Chaos: rules between two real hosts while everything that can die dies, again and again.

What takes part: tiny machines whose content the test knows at any time (:mod:`.vms`; some off, some
paused, some running, with one or two disks, qcow2 and raw), a control server with three DR machines
on PostgreSQL, or one process on SQLite (:mod:`.processes`, :mod:`.stage`), an owner who switches
machines on and off, and an operator who starts, stops, edits and moves rules and changes limits
(:mod:`.actors`). What happens to them (:mod:`.faults`): kill -9 and restarts of the server, of DR
machines, of libvirtd on both hosts, of receivers, helpers and guests' QEMUs; PostgreSQL restarts,
clean and crashed; cuts of the network that drop or refuse; a DR machine that sleeps.

What must hold (:mod:`.watch`, :mod:`.limits`, :mod:`.aftermath`):

- Every restore point is of one instant: it holds exactly the first n writes of its machine, n is at
  least what was durable when it says it was taken, and grows from point to point. It reads the same
  at the end. No point is lost but for the oldest ones, merged by the retention.
- No limit was exceeded and no rule overlapped itself: by samples of the database, by its whole
  history, and by what the DR machines say of themselves. No rule has two helpers.
- In the end each rule runs once more, with all that was written; the catalogue is what the targets
  say; no job, checkpoint, scratch file, socket, volume, domain, folder or process is left.
- No task fails with an error of which the weather is not the cause.

``make test`` runs the short form, ``make soak`` the full one: 60 rules, 15 minutes on each database
(``HOTSPARE_CHAOS_SECONDS``). The dice of each actor are seeded: ``HOTSPARE_CHAOS_SEED`` is printed
and can be given. What happens at which instant of a run still depends on the machine.
"""

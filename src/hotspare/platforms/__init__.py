"""The platform port (:mod:`hotspare.platforms.port`) and its drivers, one package each."""

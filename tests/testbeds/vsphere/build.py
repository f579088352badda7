"""The simulator and the stand-in for VDDK, built from source once and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..kvm.errors import MissingPrerequisite
from ..kvm.image import cache_dir, locked
from ..kvm.tools import need, run, which

SOURCES = Path(__file__).parent
GO_LIBRARIES = Path("/usr/share/gocode")        # where Debian puts them
GOVMOMI = GO_LIBRARIES / "src/github.com/vmware/govmomi"
REAL_PLUGINS = tuple(Path("/usr/lib").glob("*/nbdkit/plugins/nbdkit-vddk-plugin.so"))
"""nbdkit's own plugin, of Debian's contrib, where it is installed; HS_VDDK_PLUGIN names another."""

_FLAGS = ("-O2", "-Wall", "-fPIC", "-shared")
_LIBRARIES = ("-lssl", "-lcrypto")


@dataclass(frozen=True)
class Built:
    """``libdir`` holds the stand-in library, as the VDDK of VMware would."""

    simulator: Path
    libdir: Path
    stand_in: Path              # a plugin of our own, with the library in it

    @property
    def plugin(self) -> Path:
        return real_plugin() or self.stand_in


def real_plugin() -> Path | None:
    named = os.environ.get("HS_VDDK_PLUGIN")
    return Path(named) if named else next(iter(REAL_PLUGINS), None)


def build() -> Built:
    """Raises MissingPrerequisite."""
    sources = sorted(p for p in SOURCES.rglob("*") if p.suffix in {".go", ".c", ".h"})
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    directory = cache_dir() / f"vsphere-{digest.hexdigest()[:16]}"
    if not directory.exists():
        _check()
        with locked(cache_dir() / "vsphere.lock"):
            if not directory.exists():
                with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=".vsphere-") as tmp:
                    made = Path(tmp, "made")
                    _make(Path(tmp), made)
                    made.replace(directory)
    return Built(directory / "simulator", directory / "vddk",
                 directory / "nbdkit-vddk-plugin.so")


def _check() -> None:
    for program, package in (("go", "golang-go"), ("gcc", "gcc"), ("nbdkit", "nbdkit")):
        if which(program) is None:
            raise MissingPrerequisite(f"The program {program} is not installed.",
                                      f"Install the package {package}.")
    for path, package in ((GOVMOMI, "golang-github-vmware-govmomi-dev"),
                          (Path("/usr/include/nbdkit-plugin.h"), "nbdkit-plugin-dev"),
                          (Path("/usr/include/openssl/ssl.h"), "libssl-dev")):
        if not path.exists():
            raise MissingPrerequisite(f"{path} is missing.", f"Install the package {package}.")


def _make(tmp: Path, made: Path) -> None:
    package = tmp / "go/src/simulator"
    shutil.copytree(SOURCES / "simulator", package)
    library = made / "vddk/lib64"
    library.mkdir(parents=True)
    environment = ["GO111MODULE=off", f"GOPATH={tmp / 'go'}:{GO_LIBRARIES}",
                   f"GOCACHE={cache_dir() / 'go'}"]
    run([need("env"), *environment, "go", "build", "-o", made / "simulator", "simulator"],
        timeout=600)
    vddk = SOURCES / "vddk"
    run(["gcc", *_FLAGS, "-o", library / "libvixDiskLib.so.8", vddk / "library.c", *_LIBRARIES])
    run(["gcc", *_FLAGS, "-o", made / "nbdkit-vddk-plugin.so", vddk / "plugin.c",
         vddk / "library.c", *_LIBRARIES])

"""The test guest: kernel, initrd and disks, built once without root and kept in a cache.

The guest is the machine's own cloud kernel with busybox and qemu-ga. Disks are put together from
file images with mke2fs and mtools, so that no loop device, mount or root right is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import lzma
import os
import platform
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import MissingPrerequisite, TestbedError
from .tools import need, run

DiskFormat = Literal["qcow2", "raw"]

GUEST_FILES = Path(__file__).parent / "guest"
SECTOR = 512
GIB = 1024**3
# Layout of the boot disk: MBR and GRUB's core in the gap, FAT (also EFI's system partition), ext4
BOOT_START, BOOT_SECTORS = 2048, 131072
DATA_START = BOOT_START + BOOT_SECTORS
# What the guest needs; their dependencies come from modules.dep, and built-in ones are left out.
MODULES = (
    "virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_scsi", "vmw_pvscsi",
    "vmxnet3", "sd_mod", "ext4", "button", "evdev",
)  # fmt: skip
GRUB_MODULES = (
    "part_msdos", "fat", "linux", "normal", "search", "search_label", "configfile", "serial",
    "terminal", "echo", "boot", "test",
)  # fmt: skip


def cache_dir() -> Path:
    """Return the test bed's cache directory, made on first use."""
    root = os.environ.get("XDG_CACHE_HOME")
    path = (Path(root) if root else Path.home() / ".cache") / "hotspare-testbed"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file: two test runs may want to build the same image at once."""
    with path.open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Kernel:
    """An installed kernel with its modules."""

    version: str
    image: Path
    modules: Path


@dataclass(frozen=True)
class GuestImage:
    """The built guest. Its files are shared by every lab: copy, never change them."""

    directory: Path
    kernel: Path
    initrd: Path
    kernel_version: str

    def boot_disk(
        self, path: Path, *, fmt: DiskFormat = "qcow2", size_gib: int = 1, arguments: str = ""
    ) -> None:
        """Write a disk that boots under BIOS and UEFI; its data file system is labelled hsdata0.

        `arguments` are appended to the kernel's command line. They live on the disk itself, so a
        replica of it boots with the same ones.
        """
        base = self._base_boot_disk(size_gib)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".disk-") as tmp:
            raw = Path(tmp, "disk.raw")
            run(["cp", "--sparse=always", "--reflink=auto", base, raw])
            config = Path(tmp, "hs.cfg")
            config.write_text(f'set hsargs="{arguments}"\n', encoding="ascii")
            run(["mcopy", "-o", "-i", f"{raw}@@{BOOT_START * SECTOR}", config, "::/hs.cfg"])
            _finish(raw, path, fmt)

    def data_disk(
        self, path: Path, *, fmt: DiskFormat = "qcow2", size_gib: int = 1, label: str = "hsdata1"
    ) -> None:
        """Write an empty ext4 disk; the guest mounts and journals to those labelled hsdataN."""
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".disk-") as tmp:
            raw = Path(tmp, "disk.raw")
            _ext4(raw, size_gib * GIB, label)
            _finish(raw, path, fmt)

    def _base_boot_disk(self, size_gib: int) -> Path:
        target = self.directory / f"boot-{size_gib}g.raw"
        if not target.exists():
            with locked(self.directory / "lock"):
                if not target.exists():
                    with tempfile.TemporaryDirectory(dir=self.directory, prefix=".boot-") as tmp:
                        _build_boot_disk(Path(tmp), self, size_gib * GIB)
                        Path(tmp, "disk.raw").replace(target)
        return target


def find_kernel() -> Kernel:
    """Return the newest installed kernel, a cloud one first: that is small and has virtio."""
    found: list[tuple[bool, list[int], Kernel]] = []
    for image in Path("/boot").glob("vmlinuz-*"):
        version = image.name.removeprefix("vmlinuz-")
        modules = Path("/lib/modules", version)
        if (modules / "modules.dep").exists() and os.access(image, os.R_OK):
            numbers = [int(n) for n in re.findall(r"\d+", version)]
            found.append(("cloud" in version, numbers, Kernel(version, image, modules)))
    if not found:
        raise MissingPrerequisite(
            "No readable kernel with its modules is in /boot and /lib/modules.",
            "Install the package linux-image-cloud-amd64; on Ubuntu also make it readable "
            "(chmod +r /boot/vmlinuz-*).",
        )
    return max(found, key=lambda item: item[:2])[2]


def build() -> GuestImage:
    """Return the guest, building it when this machine's inputs were not built before (some 2 s)."""
    if platform.machine() != "x86_64":
        raise MissingPrerequisite(
            f"The test guest is for x86_64 and this machine is {platform.machine()}.",
            "Run these tests on an x86_64 machine.",
        )
    kernel = find_kernel()
    target = cache_dir() / f"guest-{_key(kernel)}"
    if not target.exists():
        with locked(cache_dir() / "lock"):
            if not target.exists():
                tmp = Path(tempfile.mkdtemp(dir=cache_dir(), prefix=".guest-"))
                try:
                    shutil.copyfile(kernel.image, tmp / "vmlinuz")
                    (tmp / "initrd.gz").write_bytes(_initrd(kernel))
                    tmp.rename(target)
                except BaseException:
                    shutil.rmtree(tmp, ignore_errors=True)
                    raise
    return GuestImage(target, target / "vmlinuz", target / "initrd.gz", kernel.version)


def _key(kernel: Kernel) -> str:
    """Hash everything that decides what the guest is made of."""
    digest = hashlib.sha256(kernel.version.encode())
    inputs = [Path(__file__), *sorted(GUEST_FILES.iterdir())]
    inputs += [Path(need("busybox")), Path(need("qemu-ga")), kernel.image]
    for path in inputs:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _initrd(kernel: Kernel) -> bytes:
    with tempfile.TemporaryDirectory(prefix="hs-initrd-") as name:
        root = Path(name)
        for directory in ("bin", "mod", "sbin", "usr/sbin", "etc/acpi/PWRF", "proc", "sys", "dev"):
            (root / directory).mkdir(parents=True)
        _program(root, "busybox", "bin/busybox")
        _program(root, "qemu-ga", "usr/sbin/qemu-ga")
        for source, place in (
            ("init", "init"), ("shutdown", "sbin/shutdown"), ("shutdown", "etc/acpi/PWRF/00000080"),
        ):  # fmt: skip
            shutil.copyfile(GUEST_FILES / source, root / place)
            (root / place).chmod(0o755)
        order = _modules_in_order(kernel)
        for path in order:
            (root / "mod" / _plain_name(path)).write_bytes(_unpacked(path))
        names = "".join(f"{_plain_name(path)}\n" for path in order)
        (root / "mod/order").write_text(names, encoding="ascii")
        (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n", encoding="ascii")
        (root / "etc/group").write_text("root:x:0:\n", encoding="ascii")
        (root / "etc/mtab").symlink_to("/proc/self/mounts")  # qemu-ga finds what to freeze here
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        archive = run(
            ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet", "-D", root],
            stdin="\n".join(files).encode() + b"\n",
        )
    return gzip.compress(archive, compresslevel=6, mtime=0)


def _program(root: Path, program: str, place: str) -> None:
    """Copy a program and every library that ldd says it loads, each at its own path."""
    binary = Path(need(program))
    shutil.copy(binary, root / place)
    try:
        listing = run(["ldd", binary]).decode()
    except TestbedError:  # ldd fails on a static program, and then there is nothing to copy
        return
    for library in re.findall(r"(/\S+) \(0x", listing):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, target)
        target.chmod(0o755)


def _modules_in_order(kernel: Kernel) -> list[Path]:
    """Return the module files to load, dependencies first."""
    depends: dict[str, tuple[Path, list[str]]] = {}
    for line in (kernel.modules / "modules.dep").read_text(encoding="ascii").splitlines():
        file, _, needs = line.partition(":")
        depends[_module_name(file)] = (kernel.modules / file, needs.split())
    order: list[Path] = []

    def add(name: str) -> None:
        if name not in depends:
            return  # built into the kernel, or not part of this kernel
        path, needs = depends[name]
        for other in needs:
            add(_module_name(other))
        if path not in order:
            order.append(path)

    for module in MODULES:
        add(module)
    return order


def _plain_name(path: str | Path) -> str:
    return Path(path).name.split(".ko")[0] + ".ko"


def _module_name(path: str | Path) -> str:
    return _plain_name(path)[:-3].replace("-", "_")


def _unpacked(module: Path) -> bytes:
    """Return a module uncompressed: busybox cannot load compressed ones."""
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".gz":
        return gzip.decompress(module.read_bytes())
    if module.suffix == ".zst":
        return run(["zstd", "-dcq", module])
    return module.read_bytes()


def _ext4(path: Path, size: int, label: str) -> None:
    with path.open("wb") as handle:
        handle.truncate(size)
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-E", options, path])


def _finish(raw: Path, path: Path, fmt: DiskFormat) -> None:
    """Convert to the wanted format beside the target and put it in place in one step."""
    ready = raw
    if fmt == "qcow2":
        ready = raw.with_name("disk.qcow2")
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, ready])
    ready.replace(path)


def _grub_dir() -> Path:
    for root in ("/usr/lib/grub", "/usr/share/grub", "/usr/lib/grub2"):
        path = Path(root)
        if (path / "i386-pc/boot.img").exists() and (path / "x86_64-efi").is_dir():
            return path
    raise MissingPrerequisite(
        "GRUB's files for BIOS and UEFI are not installed.",
        "Install the packages grub-pc-bin and grub-efi-amd64-bin.",
    )


def _build_boot_disk(tmp: Path, image: GuestImage, size: int) -> None:
    """Put the boot disk together in tmp/disk.raw."""
    grub = _grub_dir()
    for target, output, extra in (
        ("i386-pc", "core.img", ["biosdisk"]),
        ("x86_64-efi", "bootx64.efi", ["part_gpt"]),
    ):
        run(["grub-mkimage", "-d", grub / target, "-O", target, "-c", GUEST_FILES / "early.cfg",
             "-p", "/grub", "-o", tmp / output, *GRUB_MODULES, *extra])  # fmt: skip

    fat = tmp / "fat.raw"
    with fat.open("wb") as handle:
        handle.truncate(BOOT_SECTORS * SECTOR)
    run(["mkfs.vfat", "-F", "32", "-n", "HSBOOT", fat])
    run(["mmd", "-i", fat, "::/EFI", "::/EFI/BOOT"])
    for source, place in (
        (tmp / "bootx64.efi", "EFI/BOOT/BOOTX64.EFI"), (image.kernel, "vmlinuz"),
        (image.initrd, "initrd.gz"), (GUEST_FILES / "grub.cfg", "grub.cfg"),
    ):  # fmt: skip
        run(["mcopy", "-i", fat, source, f"::/{place}"])

    sectors = size // SECTOR
    data = tmp / "data.raw"
    _ext4(data, (sectors - DATA_START) * SECTOR, "hsdata0")
    core = (tmp / "core.img").read_bytes()
    if len(core) > (BOOT_START - 1) * SECTOR:
        raise TestbedError("GRUB's core image is too big.", "Shorten GRUB_MODULES in image.py.")
    disk = tmp / "disk.raw"
    with disk.open("wb") as handle:
        handle.truncate(size)
        handle.write((grub / "i386-pc/boot.img").read_bytes()[:440])
        handle.write(struct.pack("<IH", 0x48530001, 0))
        handle.write(_partition(0x80, 0xEF, BOOT_START, BOOT_SECTORS))
        handle.write(_partition(0x00, 0x83, DATA_START, sectors - DATA_START))
        handle.write(bytes(32) + b"\x55\xaa")
        handle.write(core)  # right behind the MBR, where boot.img looks for it
    for part, start in ((fat, BOOT_START), (data, DATA_START)):
        run(["dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start * SECTOR // 1024**2}",
             "conv=notrunc,sparse", "status=none"])  # fmt: skip


def _partition(flag: int, kind: int, start: int, sectors: int) -> bytes:
    nowhere = b"\xfe\xff\xff"  # "see the sector numbers": no firmware in use reads the CHS ones
    return struct.pack("<B3sB3sII", flag, nowhere, kind, nowhere, start, sectors)
